# SPDX-License-Identifier: Apache-2.0
"""After each change a userspace datapath is made to forget what it has cached, however often that takes."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

import pytest

from sgctl.agent.metrics import Metrics
from sgctl.agent.renewals import Renewals
from sgctl.openflow.control import PURGE
from sgctl.openflow.errors import SwitchError, SwitchGone


@dataclass
class Daemon:
    """ovs-vswitchd's control socket, with what it answers next; it is asked for nothing else."""

    answers: list[SwitchError | None] = field(default_factory=list)
    asked: int = 0

    def ask(self, command: str) -> str:
        assert command == PURGE
        self.asked += 1
        answer = self.answers.pop(0) if self.answers else None
        if answer is not None:
            raise answer
        return ""


@pytest.fixture
def daemon() -> Daemon:
    return Daemon()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def renewals(daemon: Daemon, metrics: Metrics) -> Renewals:
    renewals = Renewals(daemon, metrics)  # type: ignore[arg-type]
    renewals.userspace = True
    return renewals


def test_at_the_start_nobody_knows_what_is_cached(daemon: Daemon, renewals: Renewals) -> None:
    renewals.renew()
    assert daemon.asked == 1


def test_each_change_is_followed_by_one(daemon: Daemon, renewals: Renewals) -> None:
    renewals.renew()
    renewals.renew()
    assert daemon.asked == 1
    renewals.note()
    renewals.note()
    renewals.renew()
    renewals.renew()
    assert daemon.asked == 2


def test_the_kernel_needs_none(daemon: Daemon, renewals: Renewals) -> None:
    renewals.userspace = False
    assert renewals.done
    renewals.renew()
    assert daemon.asked == 0
    renewals.userspace = True
    renewals.renew()
    assert daemon.asked == 1


def test_what_fails_is_said_once_and_tried_again(
    daemon: Daemon, renewals: Renewals, metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    daemon.answers = [SwitchGone("no control socket"), SwitchGone("no control socket"), SwitchError("no such command")]
    for _ in range(6):
        renewals.renew()
    assert daemon.asked == 4
    reasons = [record.getMessage().rpartition(": ")[2] for record in caplog.records if record.levelno == logging.ERROR]
    assert reasons == ["no control socket", "no such command"]
    assert [record.getMessage() for record in caplog.records][-1] == "the switch forgets cached decisions again"
    assert metrics.registry.get_sample_value("sgctl_renewal_errors_total") == 3
