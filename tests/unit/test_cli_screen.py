# SPDX-License-Identifier: Apache-2.0
"""Tables on terminals of every width: nothing of them is lost."""

import io
import re

import pytest

from sgctl.cli import screen
from sgctl.cli.blocks import Table

COLUMNS = ("name", "account", "ingress", "egress", "vms", "description", "id")
WORDS = "tcp 12489 from operator/cacti, operator/nagios; udp 1 from operator/nagios; everything from 10.0.0.0/8"
TABLE = Table(
    COLUMNS,
    (
        ("default", "shop", "", "", "0", "Default Security Group", "ae5a41ae-3374-4bb5-971c-3f8408aa6e82"),
        ("web", "shop", WORDS, "everything to anywhere (IPv4), anywhere (IPv6)", "12", "", "c36cc00e-e00c-4eb6-98b0"),
    ),
)
LEAST = screen._least_width(TABLE)


class Terminal(io.StringIO):
    """A stream that says that it is one."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def text(width: int, monkeypatch: pytest.MonkeyPatch) -> str:
    """What is drawn for a terminal of that width, without colours."""
    monkeypatch.setattr(screen, "_width", lambda stream: width)
    return re.sub(r"\x1b\[[0-9;]*m", "", screen.drawn([TABLE], Terminal()))


@pytest.mark.parametrize("width", [60, 80, LEAST - 1, LEAST, LEAST + 1, LEAST + 5, LEAST + 30, 300])
def test_nothing_is_lost(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = text(width, monkeypatch)
    for row in TABLE.rows:
        shown = row if "id left out" not in drawn else row[:-1]
        for word in " ".join(shown).split():
            assert word in drawn, (width, word)


def test_a_row_is_one_line_elsewhere_whatever_is_in_it() -> None:
    rows = tuple((char * 9, "x") for char in ("\x1b", "\t", "e\u0301", "漢", "\u200b", "👩\u200d🚀", "\u202e"))
    assert screen.drawn([Table(("name", "id"), rows)], io.StringIO()).count("\n") == 1 + len(rows)


@pytest.mark.parametrize("width", [80, LEAST, LEAST + 30, 300])
def test_no_line_is_too_long(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert max(map(len, text(width, monkeypatch).splitlines())) <= width
