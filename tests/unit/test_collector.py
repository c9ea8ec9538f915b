# SPDX-License-Identifier: Apache-2.0
"""What the garbage collector is kept out of."""

import gc
from collections.abc import Iterator

import pytest

from sgctl.collector import BULK, uncollected


@pytest.fixture(autouse=True)
def _thawed() -> Iterator[None]:
    gc.collect()
    gc.unfreeze()
    yield
    gc.unfreeze()


def test_it_does_not_run_meanwhile_and_does_afterwards() -> None:
    with uncollected():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_who_had_it_off_has_it_off_afterwards() -> None:
    with uncollected():
        with uncollected():
            pass
        assert not gc.isenabled()


def test_it_never_looks_at_what_was_made_in_bulk() -> None:
    with uncollected():
        made = [[number] for number in range(2 * BULK)]
    assert gc.get_freeze_count() > len(made)
    assert gc.get_count()[0] < BULK


def test_it_goes_on_looking_at_the_few_that_an_event_makes() -> None:
    with uncollected():
        made = [[number] for number in range(BULK // 10)]
    assert made
    assert gc.get_freeze_count() == 0
