# SPDX-License-Identifier: Apache-2.0
"""What the local switch's database says, as values: made by `sgctl.vswitch`, judged by `sgctl.policy`."""

from __future__ import annotations

from dataclasses import dataclass

UPLINK_ROLE = "uplink"
"""Value of ``external_ids:sgctl-role`` of an interface that leads to the physical network."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalPort:
    """One interface of the bridge, as its row says.

    uuid: the Interface row.  ofport: None until the switch has given it a number, or without a device: then
    `error` says why.
    iface_id, attached_mac, role: ``external_ids:iface-id``, ``attached-mac`` and ``sgctl-role``, as they were written.
    """

    uuid: str
    name: str
    ofport: int | None = None
    iface_id: str | None = None
    attached_mac: str | None = None
    role: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class VSwitch:
    """The bridge: its datapath id (0: not known yet), its interfaces, and whether it forwards in user space."""

    datapath_id: int = 0
    ports: tuple[LocalPort, ...] = ()
    userspace: bool = False
