# SPDX-License-Identifier: Apache-2.0
"""Options about what ports may use, and for how long connections are remembered."""

from __future__ import annotations

import pytest
from oslo_config import cfg

from flows.inputs import Limit, Limits
from sgctl import config
from sgctl.protection import Protection, ProtectionError, limit, timeouts


@pytest.mark.parametrize(
    ("text", "expected"),
    [("5000:10000", Limit(5000, 10000)), ("100", Limit(100, 100)), (" 7:1 ", Limit(7, 1)), ("0", None), ("0:5", None)],
)
def test_limits(text: str, expected: Limit | None) -> None:
    assert limit("--limit-connections", text) == expected


@pytest.mark.parametrize("text", ["", "fast", "-1", "1:0", "1:2:3", "1.5", "1:-2", "9999999999"])
def test_limits_that_cannot_be(text: str) -> None:
    with pytest.raises(ProtectionError, match="--limit-fragments"):
        limit("--limit-fragments", text)


def test_timeouts() -> None:
    assert timeouts("--ct-timeouts", {"udp_first": "30"}) == {"udp_first": 30}
    for name, value in (("udp", "30"), ("udp_first", "0"), ("udp_first", "-1"), ("udp_first", "x")):
        with pytest.raises(ProtectionError, match=f"--ct-timeouts {name}"):
            timeouts("--ct-timeouts", {name: value})


def parsed(*arguments: str) -> Protection:
    conf = cfg.ConfigOpts()
    conf.register_cli_opts(
        [
            cfg.StrOpt("ofp-listen-host", default="127.0.0.1"),
            cfg.IntOpt("ofp-tcp-listen-port"),
            cfg.IntOpt("ofp-ssl-listen-port"),
            *(cfg.StrOpt(name) for name in ("ctl-privkey", "ctl-cert", "ca-certs")),
        ]
    )
    return config.parse(conf, arguments).protection


def test_defaults_leave_room_for_real_services() -> None:
    default = parsed()
    assert default.limits == Limits(Limit(5000, 10000), Limit(100, 100), Limit(10, 10))
    assert default.connections == 1_000_000
    assert default.timeouts["tcp_established"] >= 3600
    assert (default.audit, default.remove_foreign) == (300, False)


def test_everything_can_be_set() -> None:
    chosen = parsed(
        "--limit-connections=0", "--limit-fragments=9:8", "--limit-frames=1", "--ct-limit=0",
        "--ct-timeouts=udp_first:5,icmp_first:6", "--audit-interval=0", "--remove-foreign-flows",
    )  # fmt: skip
    assert chosen.limits == Limits(None, Limit(9, 8), Limit(1, 1))
    assert dict(chosen.timeouts) == {"udp_first": 5, "icmp_first": 6}
    assert (chosen.connections, chosen.audit, chosen.remove_foreign) == (0, 0, True)


def test_what_cannot_be_right_ends_the_start() -> None:
    with pytest.raises(config.OptionError, match="--limit-frames many"):
        parsed("--limit-frames=many")
