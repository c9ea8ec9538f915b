# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the functional tests: labs of network namespaces with real Open vSwitch.

Each lab is private to its test (or module), so several copies of the tests run beside each other.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from devstack.lab import Hypervisor, Lab, Network, Segment

NEEDED = ("ovs-vswitchd", "ovsdb-server", "ip", "nsenter", "dnsmasq", "busybox", "dhclient")
HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test of this directory is functional: without root or the programs it fails in `lab`, it is not skipped."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.functional)


def _new_lab() -> Lab:
    missing = [program for program in NEEDED if shutil.which(program) is None]
    if missing or os.geteuid() != 0:
        pytest.fail(f"functional tests need root and {', '.join(missing or NEEDED)}: run `make setup` as root")
    return Lab()


@pytest.fixture
def lab() -> Iterator[Lab]:
    """An empty lab, removed with all that is in it."""
    with _new_lab() as lab:
        yield lab


@pytest.fixture(scope="module")
def module_lab() -> Iterator[Lab]:
    """The same for all tests of a module."""
    with _new_lab() as lab:
        yield lab


@pytest.fixture
def hypervisor(lab: Lab) -> Hypervisor:
    """A hypervisor with an Open vSwitch, `br-int` and nothing else."""
    return Hypervisor(lab, "hv1")


@pytest.fixture
def pod(lab: Lab) -> Segment:
    """An empty L2 segment."""
    return Segment(lab, "pod1")


@pytest.fixture
def net() -> Network:
    """Expectations about who reaches whom; `net.check()` tries them."""
    return Network()
