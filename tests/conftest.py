# SPDX-License-Identifier: Apache-2.0
"""Settings of all tests."""

import gc
import os
import sys

import pytest
from hypothesis import HealthCheck, Phase, settings

# What the many processes of the tests import is compiled once, not by each.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# How fast an example runs says more about the machine than about the code: speed is for tests/bench.
settings.register_profile("sgctl", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# That a test fails is enough there; the shortest example would take a minute.
settings.register_profile("mutants", settings.get_profile("sgctl"), phases=(Phase.explicit, Phase.generate))
settings.load_profile("sgctl")


def pytest_configure(config: pytest.Config) -> None:
    """Let pytest-xdist begin with `functional` and end with `unit`, whose many short files fill both workers.

    By itself it would begin with the files of many tests, which are the quick ones, and end with one worker in a file
    that is one long test while the other has nothing left to do.
    """
    config.option.loadscopereorder = False


def pytest_collection_finish() -> None:
    """Keep the garbage collector away from thousands of tests and their modules, a sixth of what unit tests take."""
    gc.freeze()
