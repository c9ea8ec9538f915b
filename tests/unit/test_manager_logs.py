# SPDX-License-Identifier: Apache-2.0
"""Whoever reads the log cannot stop who writes it."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sgctl.manager.logs import PIECE, Unhurried


@dataclass
class Pipe:
    """A log, and what its reader has."""

    reader: int
    handler: Unhurried

    def say(self, text: str) -> None:
        self.handler.handle(logging.LogRecord("x", logging.INFO, "x", 1, "%s", (text,), None))

    def read(self) -> list[str]:
        return os.read(self.reader, 1 << 20).decode().splitlines()


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    reader, writer = os.pipe()
    yield Pipe(reader, Unhurried(writer))
    os.close(writer)
    os.close(reader)


def test_lines_arrive_in_order(pipe: Pipe) -> None:
    for text in ("one", "tvö", "x" * 3 * PIECE):
        pipe.say(text)
    assert pipe.read() == ["one", "tvö", "x" * 3 * PIECE]
    assert pipe.handler.lost == 0


def test_a_reader_that_stops_stops_nobody_and_is_told_later(pipe: Pipe) -> None:
    for number in range(300):
        pipe.say(f"{number} " + "x" * 1000)
    lost = pipe.handler.lost
    assert 0 < lost < 300
    read = pipe.read()
    assert [line.partition(" ")[0] for line in read] == [str(number) for number in range(300 - lost)]
    pipe.say("again")
    assert pipe.read() == [f"{lost} lines were lost: nobody read the log", "again"]
    pipe.say("and again")
    assert pipe.read() == ["and again"]


def test_what_was_said_in_part_is_ended_before_the_next_line(pipe: Pipe) -> None:
    pipe.say("x" * (1 << 20))
    assert pipe.handler.lost == 1
    pipe.read()
    pipe.say("next")
    assert pipe.read() == ["", "1 lines were lost: nobody read the log", "next"]


def test_a_reader_that_goes_stops_nobody() -> None:
    reader, writer = os.pipe()
    pipe = Pipe(reader, Unhurried(writer))
    os.close(reader)
    for _ in range(3):
        pipe.say("x")
    assert pipe.handler.lost == 3
    os.close(writer)


def test_files_take_everything(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as file:
        pipe = Pipe(-1, Unhurried(file.fileno()))
        for _ in range(100):
            pipe.say("x" * 10_000)
    assert (tmp_path / "log").stat().st_size == 100 * 10_001
