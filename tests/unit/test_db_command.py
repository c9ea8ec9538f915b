# SPDX-License-Identifier: Apache-2.0
"""``sgctl-db`` before it does anything."""

from importlib.metadata import version

import pytest

from sgctl.db.command import main


def test_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert (ended.value.code, capsys.readouterr().out) == (0, f"sgctl-db {version('sgctl')}\n")
