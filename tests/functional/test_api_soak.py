# SPDX-License-Identifier: Apache-2.0
"""A short version of ``make soak-api``."""

from pathlib import Path

from tests.functional.api_soak import soak


def test_mixed_requests(tmp_path: Path) -> None:
    soak(tmp_path / "one", requests=2000, seed=1)
