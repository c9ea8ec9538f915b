# SPDX-License-Identifier: Apache-2.0
"""``sgctl-bridge release``: give the bridge back as it was before sgctl, and take away only what is sgctl's."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from time import monotonic, sleep
from typing import TYPE_CHECKING

from flows.inputs import ZONE
from flows.learned import LEARNED, learned
from flows.meters import FIRST, LAST
from sgctl.bridgelock import lock_bridge
from sgctl.config import Place, parse_place
from sgctl.errors import SgctlError
from sgctl.openflow import ofctl
from sgctl.openflow.conntrack import ConntrackReader
from sgctl.openflow.control import PURGE, Control
from sgctl.openflow.errors import SwitchError
from sgctl.reconcile import SCOPE, ours

if TYPE_CHECKING:
    from sgctl.vswitch import LocalSwitch

PROGRAM = "sgctl-bridge"
RELEASE = "release"
_SCOPE, _SCOPE_MASK = SCOPE << 56, 0xFF << 56
_OURS = range(FIRST, LAST + 1)
_PATIENCE = 5.0


class ReleaseError(SgctlError):
    """The bridge cannot be given back."""


def main(arguments: Sequence[str] | None = None) -> int:
    """0 if the bridge is as it was before sgctl, 1 if not."""
    warnings.filterwarnings("ignore", message=r"\s*Eventlet is deprecated")
    try:
        _, place = parse_place(PROGRAM, [RELEASE], sys.argv[1:] if arguments is None else arguments)
        with closing(lock_bridge(place)):
            print(f"{place.bridge}: {release(place)}")
    except SgctlError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 1
    return 0


def release(place: Place) -> str:
    """Give the bridge back; what was done, in words.

    The switch drops all flows and meters together with its last controller: those of others are put back.
    """
    # Not before the warning about eventlet, which the `ovs` package imports, is silent.
    from sgctl.vswitch import LocalSwitch

    local = LocalSwitch(place.ovsdb_connection, place.bridge)
    local.start()
    try:
        _await(local, place)
        target = f"unix:{place.rundir / place.bridge}.mgmt"
        flows, meters = ofctl.foreign_flows(target, _ours), ofctl.dump_meters(target)
        restored = local.release()
        _remove(target)
        # A datapath that cannot be bounded was not.
        with suppress(SwitchError):
            ConntrackReader(place.rundir, place.bridge).bound(ZONE, 0)
        _put_back(target, flows, meters)
        if local.snapshot().userspace:
            Control(place.rundir).ask(PURGE)
    finally:
        local.stop()
    settings = "settings as before" if restored else "settings not changed: sgctl has left no note of what was before"
    return f"sgctl's flows and meters removed, {len(flows)} flows of others kept, {settings}"


def _remove(target: str) -> None:
    ofctl.delete_flows(target, _SCOPE, _SCOPE_MASK)
    ofctl.delete_flows(target, LEARNED, LEARNED)
    for number in filter(_OURS.__contains__, ofctl.dump_meters(target)):
        ofctl.delete_meter(target, number)
    ofctl.forget_fragment_mode(target)


def _put_back(target: str, flows: Sequence[str], meters: Mapping[int, str]) -> None:
    there = ofctl.dump_meters(target)
    for number, meter in meters.items():
        if number not in _OURS and number not in there:
            ofctl.add_meter(target, meter)
    ofctl.add_flows(target, flows)


def _await(local: LocalSwitch, place: Place) -> None:
    until = monotonic() + _PATIENCE
    while not local.insync:
        if monotonic() > until:
            raise ReleaseError(f"the switch's database {place.ovsdb_connection} does not answer")
        sleep(0.02)
    if not local.snapshot().datapath_id:
        raise ReleaseError(f"there is no bridge {place.bridge}, or ovs-vswitchd does not run")


def _ours(cookie: int) -> bool:
    return ours(cookie) or learned(cookie)


if __name__ == "__main__":
    sys.exit(main())
