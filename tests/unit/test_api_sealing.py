# SPDX-License-Identifier: Apache-2.0
"""Secret keys at rest: sealed with the API servers' own key, or left as they are."""

import stat
from pathlib import Path

import pytest

from sgctl.api.sealing import Sealer, SealError
from sgctl.errors import SgctlError


def test_without_a_key_secrets_stay_as_they_are() -> None:
    assert Sealer.from_file("").seal("s3cret") == "s3cret"
    assert Sealer().open("s3cret") == "s3cret"


def test_what_is_sealed_is_not_readable_and_opens_again(tmp_path: Path) -> None:
    path = tmp_path / "seal.key"
    stored = Sealer.from_file(str(path)).seal("s3cret")
    assert "s3cret" not in stored
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert Sealer.from_file(str(path)).open(stored) == "s3cret"


def test_secrets_from_before_the_key_still_open(tmp_path: Path) -> None:
    assert Sealer.from_file(str(tmp_path / "seal.key")).open("s3cret") == "s3cret"


def test_the_wrong_key_and_none_say_so(tmp_path: Path) -> None:
    stored = Sealer.from_file(str(tmp_path / "one")).seal("s3cret")
    with pytest.raises(SealError, match="is not the key"):
        Sealer.from_file(str(tmp_path / "other")).open(stored)
    with pytest.raises(SealError, match="--api-seal-key must name"):
        Sealer().open(stored)


@pytest.mark.parametrize("content", ["", "short", "no base64 at all, but long enough to be one"])
def test_a_file_without_a_key_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "seal.key"
    path.write_text(content)
    with pytest.raises(SgctlError, match="holds no key"):
        Sealer.from_file(str(path))


def test_a_file_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SgctlError, match="No such file or directory"):
        Sealer.from_file(str(tmp_path / "absent" / "seal.key"))
