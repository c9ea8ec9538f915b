# SPDX-License-Identifier: Apache-2.0
"""What an operator may set about the API."""

from __future__ import annotations

from dataclasses import dataclass, field

from sgctl.api.sealing import Sealer
from sgctl.quotas import Quotas


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Quotas, and how an API server presents itself; the defaults suit all but tests."""

    endpoint: str = "http://127.0.0.1:8080/client/api"
    server: str = ""
    quotas: Quotas = field(default_factory=Quotas)
    host_timeout_ms: int = 60_000
    job_keep_ms: int = 3600 * 1000
    job_wait_ms: int = 60_000
    cut_keep_ms: int = 600_000
    max_body: int = 1 << 20
    sealer: Sealer = field(default_factory=Sealer)
