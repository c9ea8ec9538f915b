# SPDX-License-Identifier: Apache-2.0
"""The grammar of the command line."""

import pytest

from sgctl.cli.arguments import Invocation, parse
from sgctl.cli.errors import UsageError


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("list zones", Invocation(words=("list", "zones"))),
        ("list zones name=a=b", Invocation(words=("list", "zones"), params={"name": "a=b"})),
        ("list zones name=", Invocation(words=("list", "zones"), params={"name": ""})),
        ("-o json list zones", Invocation(words=("list", "zones"), output="json")),
        ("list -o yaml zones x=1", Invocation(words=("list", "zones"), params={"x": "1"}, output="yaml")),
        ("list zones id=-1 --no-wait", Invocation(words=("list", "zones"), params={"id": "-1"}, wait=False)),
        ("flows --table SERVICES --host hv1", Invocation(words=("flows",), params={"table": "SERVICES"}, host="hv1")),
        ("x --timeout 1.5 --job-timeout 2", Invocation(words=("x",), timeout=1.5, job_timeout=2)),
        ("x p[0].a=1 p[0].b=2", Invocation(words=("x",), params={"p[0].a": "1", "p[0].b": "2"})),
        ("", Invocation()),
    ],
)
def test_lines(line: str, expected: Invocation) -> None:
    assert parse(line.split()) == expected


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("list zones a=1 b", "'b' after the first parameter is not of the form key=value"),
        ("list =1", "names no parameter before the ="),
        ("list zones Name=1 name=2", "parameter name is given twice"),
        ("list zones -o xml", "invalid choice: 'xml'"),
        ("list zones -x", "unrecognized arguments: -x"),
        ("list zones --timeout 0", "invalid seconds value: '0'"),
        ("list zones --table X", "--table goes with `sgctl flows`"),
        ("list zones --out json", "unrecognized arguments: --out json"),
        ("list name=\udcff", "is not UTF-8 text"),
    ],
)
def test_lines_that_are_wrong(line: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        parse(line.split())
    assert message in str(error.value)
