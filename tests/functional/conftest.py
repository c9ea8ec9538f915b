# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the functional tests: labs of network namespaces with real Open vSwitch.

Each lab is private to its test (or module), so several copies of the tests run beside each other.
"""

import os
import shutil
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from devstack.lab import Hypervisor, Lab, Network, Segment
from devstack.lab.cloud import Cloud
from devstack.lab.example import Example, build
from tests.functional.promised import two_hypervisors, wait_in_force

NEEDED = ("ovs-vswitchd", "ovsdb-server", "ip", "nsenter", "dnsmasq", "busybox", "dhclient")
HERE = Path(__file__).parent
LOG_TAIL = 6000
"""Characters of a log that a failed test shows."""


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


@pytest.fixture(scope="module")
def example(module_lab: Lab) -> Example:
    """The demo's cloud: two hypervisors with sgctl-manager, two pods, three accounts, seven VMs and their rules."""
    return build(module_lab, lambda _: None)


@pytest.fixture
def cloud(lab: Lab) -> Cloud:
    """A started and registered cloud of two hypervisors, each in a pod of its own; no accounts, no VMs yet."""
    return two_hypervisors(lab)


@pytest.fixture
def in_force(cloud: Cloud) -> Iterator[None]:
    """Whatever a test does, afterwards each switch holds the flows that its agent desires, and no others."""
    yield
    wait_in_force(*cloud.managers.values())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the end of the managers' logs with a test that failed in a lab."""
    report = yield
    lab = next((lab for lab in getattr(item, "funcargs", {}).values() if isinstance(lab, Lab)), None)
    if report.failed and lab is not None:
        for log in sorted(lab.directory.glob("*/manager.log")):
            report.sections.append((str(log.relative_to(lab.directory)), log.read_text()[-LOG_TAIL:]))
    return report
