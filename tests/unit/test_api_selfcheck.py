# SPDX-License-Identifier: Apache-2.0
"""An API server tells of rows that contradict others, and not of what is being written just then."""

import logging
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from sgctl.api.selfcheck import SelfCheck
from sgctl.model import Member, Nic, member_id
from sgctl.store import Delete, Insert
from tests.unit.api_memory import Cloud, deploy


class Place:
    """A cloud with one VM, whose replica is looked at."""

    def __init__(self) -> None:
        self.cloud = Cloud()
        zone = self.cloud.zone()
        self.cloud.pod(zone)
        deploy(self.cloud.account("web"), zone)
        self.memory = self.cloud.memory
        self.memory.replica.insync = True
        self.registry = CollectorRegistry()
        self.meanwhile: Any = None
        self.check = SelfCheck(self.memory.replica, self.registry, pause=self.pause)

    def pause(self) -> None:
        if self.meanwhile:
            self.meanwhile()

    def spoil(self, address: str = "10.9.9.9") -> Member:
        """A member that no NIC stands for."""
        (nic,) = self.memory.replica.all(Nic)
        (group,) = nic.groups
        row = Member(id=member_id(group, address), group=group, nic=nic.id, address=address)
        self.memory.write([Insert(row)])
        return row

    @property
    def shown(self) -> float | None:
        return self.registry.get_sample_value("sgctl_contradictions")


@pytest.fixture
def place() -> Place:
    return Place()


def test_a_contradiction_is_told_once(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert (place.check.look(), place.shown) == (frozenset(), 0)
    row = place.spoil()
    for _ in range(2):
        assert {one.id for one in place.check.look()} == {row.id}
        assert place.shown == 1
    place.memory.write([Delete(Member, row.id)])
    assert (place.check.look(), place.shown) == (frozenset(), 0)
    told = [(record.levelname, record.getMessage()) for record in caplog.records if "contradiction" in record.message]
    assert [level for level, _ in told] == ["WARNING", "INFO"]
    assert row.id in told[0][1] and "does not have that address" in told[0][1]


def test_what_is_over_soon_was_none(place: Place) -> None:
    row = place.spoil()
    place.meanwhile = lambda: place.memory.write([Delete(Member, row.id)])
    assert place.check.look() == frozenset()


def test_many_are_not_all_named(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(30):
        place.spoil(f"10.9.9.{number}")
    assert len(place.check.look()) == 30 == place.shown
    assert len(caplog.records) == 21 and "and 10 more" in caplog.records[-1].getMessage()


def test_without_a_database_nothing_new_is_said(place: Place) -> None:
    place.spoil()
    found = place.check.look()
    place.memory.replica.insync = False
    place.spoil("10.9.9.10")
    assert place.check.look() == found
