# SPDX-License-Identifier: Apache-2.0
"""What operators promise to NICs beside their addresses: nobody else has it, and it is in the NIC's groups."""

from typing import Any

import pytest

from sgctl.api.sweep import complete_pods
from sgctl.errors import Stale
from sgctl.model import Address, Allowance, Member, Nic, Pod, member_id
from sgctl.model import Cloud as CloudRow
from sgctl.quotas import Quotas
from sgctl.store import Absent, Insert, Update
from tests.unit.api_memory import Client, Cloud, deploy, deploy_params

GUEST = "02:00:00:00:60:01"
VRRP4, VRRP6 = "00:00:5e:00:01:33", "00:00:5e:00:02:33"


class Place:
    """A cloud with a pod (10.2.0.0/24 and fd00:2::/64) and three VMs of an account."""

    def __init__(self) -> None:
        self.cloud = Cloud(quotas=Quotas(addresses_per_nic=8))
        self.cloud.memory.write([Insert(CloudRow(id="cloud"))])
        self.admin, self.user = self.cloud.admin, self.cloud.account("acme")
        self.zone = self.cloud.zone()
        self.pod = self.cloud.pod(self.zone, ipv6=True)
        self.far = self.cloud.pod(self.zone)
        self.vms = [self.deploy(name) for name in ("one", "two", "three")]
        self.one, self.two, self.three = (self.nic(vm) for vm in self.vms)

    def deploy(self, name: str, client: Client | None = None, **params: object) -> Any:
        return deploy(client or self.user, self.zone, **{"name": name, "podid": self.pod["id"], **params})

    def nic(self, vm: Any) -> str:
        return str(vm["nic"][0]["id"])

    def add(self, nic: str, **params: object) -> Any:
        return self.admin.ok("addAllowedAddressToNic", nicid=nic, **params)["allowedaddress"]

    def refused(self, nic: str, **params: object) -> tuple[int, str]:
        return self.admin.refused("addAllowedAddressToNic", nicid=nic, **params)

    def held(self, *nics: str) -> set[tuple[str, str]]:
        """The addresses that count as members of groups, with these groups."""
        rows = self.cloud.memory.replica.all(Member)
        return {(row.address, row.group) for row in rows if not nics or row.nic in nics}

    def groups(self, address: str) -> set[str]:
        return {group for held, group in self.held() if held == address}

    def group(self, name: str) -> str:
        return str(self.user.ok("createSecurityGroup", name=name)["securitygroup"]["id"])


@pytest.fixture
def place() -> Place:
    return Place()


@pytest.mark.parametrize(
    ("params", "address"),
    [
        ({"ipaddress": "10.2.0.210"}, "10.2.0.210"),
        ({"ipaddress": "FD00:2:0::0F"}, "fd00:2::f"),
        ({"ipaddress": "198.51.100.7"}, "198.51.100.7"),
        ({"cidr": "10.2.0.129/25"}, ""),
        ({"cidr": "10.2.0.224/28"}, "10.2.0.224/28"),
        ({"cidr": "10.9.1.7/16"}, "10.9.0.0/16"),
        ({"cidr": "10.9.1.7/32"}, "10.9.1.7"),
        ({"cidr": "2001:db8:7::/48"}, "2001:db8:7::/48"),
        ({"cidr": "::ffff:10.9.1.0/120"}, "10.9.1.0/24"),
        ({"ipaddress": "10.2.0.211", "macaddress": GUEST.upper().replace(":", "-")}, "10.2.0.211"),
    ],
    ids=str,
)
def test_what_may_be_promised(place: Place, params: dict[str, str], address: str) -> None:
    """The second half of a subnet has the broadcast address in it."""
    if not address:
        assert place.refused(place.one, **params)[0] == 530
        return
    added = place.add(place.one, **params, description="a cluster")
    assert (added["ipaddress"], added["nicid"], added["shared"]) == (address, place.one, False)
    assert added.get("macaddress") == (GUEST if "macaddress" in params else None)
    assert (added["account"], added["virtualmachineid"]) == ("acme", place.vms[0]["id"])
    (listed,) = place.admin.ok("listAllowedAddresses", nicid=place.one)["allowedaddress"]
    assert listed == added
    nic = place.cloud.memory.replica.get(Nic, place.one)
    assert nic is not None and nic.complete
    assert nic.allowed == {f"{address} {GUEST}" if "macaddress" in params else address}
    assert place.groups(address) == nic.groups


@pytest.mark.parametrize(
    ("params", "code", "text"),
    [
        ({}, 431, "either ipaddress or cidr"),
        ({"ipaddress": "10.2.0.210", "cidr": "10.9.0.0/24"}, 431, "either ipaddress or cidr"),
        ({"ipaddress": "10.2.0.x"}, 431, "no IP address"),
        ({"cidr": "10.2.0.210"}, 431, "no CIDR"),
        ({"cidr": "0.0.0.0/0"}, 431, "larger than a /16"),
        ({"cidr": "10.0.0.0/15"}, 431, "larger than a /16"),
        ({"cidr": "::/0"}, 431, "larger than a /48"),
        ({"cidr": "2001:db8::/47"}, 431, "larger than a /48"),
        ({"cidr": "224.0.0.0/24"}, 431, "no unicast"),
        ({"cidr": "0.0.0.0/24"}, 431, "no unicast"),
        ({"ipaddress": "127.0.0.1"}, 431, "no unicast"),
        ({"ipaddress": "255.255.255.255"}, 431, "no unicast"),
        ({"ipaddress": "fe80::1"}, 431, "no unicast"),
        ({"ipaddress": "169.254.1.1"}, 431, "no unicast"),
        ({"ipaddress": "10.2.0.1"}, 530, "a router's"),
        ({"ipaddress": "10.2.0.2"}, 530, "a server's"),
        ({"ipaddress": "10.2.0.255"}, 530, "broadcast"),
        ({"cidr": "10.2.0.0/29"}, 530, "a router's"),
        ({"ipaddress": "192.0.2.2"}, 530, "a server's"),
        ({"cidr": "10.2.0.64/28"}, 530, "overlaps with the range"),
        ({"cidr": "fd00:2::/112"}, 530, ""),
        ({"ipaddress": "10.3.0.210"}, 530, "in a subnet of the pod"),
        ({"cidr": "10.3.0.0/16"}, 530, "in a subnet of the pod"),
        ({"ipaddress": "10.2.0.210", "macaddress": "01:00:00:00:00:01"}, 431, "unicast MAC"),
        ({"ipaddress": "10.2.0.210", "macaddress": "00:00:5e:00:01:07"}, 431, "shared=true"),
        ({"ipaddress": "10.2.0.210", "macaddress": GUEST, "shared": "true"}, 431, "a virtual MAC of VRRP"),
        ({"cidr": "10.2.0.224/28", "shared": "true"}, 431, "single addresses only"),
        ({"cidr": "10.2.0.224/28", "shared": "true", "macaddress": VRRP4}, 431, "a single address"),
        ({"ipaddress": "10.2.0.210", "shared": "true", "macaddress": VRRP6}, 431, "for IPv4"),
        ({"ipaddress": "fd00:2::210", "shared": "true", "macaddress": VRRP4}, 431, "for IPv6"),
        ({"ipaddress": "10.2.0.210", "shared": "true", "macaddress": "00:00:5e:00:01:00"}, 431, "for IPv4"),
        ({"ipaddress": "10.9.0.1", "shared": "true"}, 431, "in no subnet"),
    ],
    ids=str,
)
def test_what_may_not(place: Place, params: dict[str, str], code: int, text: str) -> None:
    before = place.held()
    refusal = place.refused(place.one, **params)
    assert refusal[0] == code
    assert text in refusal[1]
    assert place.held() == before
    assert place.cloud.memory.replica.all(Allowance) == []


def test_it_is_nobody_elses(place: Place) -> None:
    """Neither an address that is in use, nor what was promised, nor a MAC."""
    own = place.vms[1]["nic"][0]["ipaddress"]
    assert place.refused(place.one, ipaddress=own) == (530, f"Failed to assign allowed address to NIC: {own} is in use")
    assert "in use" in place.refused(place.two, ipaddress=own)[1]
    place.add(place.one, ipaddress="10.2.0.210")
    place.add(place.one, cidr="10.9.0.0/24")
    for again in ({"ipaddress": "10.2.0.210"}, {"ipaddress": "10.9.0.5"}, {"cidr": "10.9.0.0/16"}):
        assert place.refused(place.two, **again)[0] == 530
        assert "allowed" in place.refused(place.one, **again)[1]
    place.add(place.one, ipaddress="10.2.0.211", macaddress=GUEST)
    place.add(place.one, ipaddress="fd00:2::f", macaddress=GUEST)
    assert "in use" in place.refused(place.two, ipaddress="10.2.0.212", macaddress=GUEST)[1]
    nic = place.cloud.memory.replica.get(Nic, place.two)
    assert nic is not None
    assert "in use" in place.refused(place.one, ipaddress="10.2.0.212", macaddress=nic.mac)[1]
    assert "own MAC" in place.refused(place.two, ipaddress="10.2.0.212", macaddress=nic.mac)[1]
    assert place.user.refused("deployVirtualMachine", **_params(place, macaddress=GUEST))[0] == 431


def _params(place: Place, **params: object) -> dict[str, object]:
    return deploy_params(place.user, place.zone, podid=place.pod["id"], **params)


def test_allocation_never_hands_it_out(place: Place) -> None:
    """Of a range of four addresses three are promised: the fourth is found, and then there is none."""
    small = place.cloud.pod(place.zone, size=4)
    subnet = small["gateway"].rsplit(".", 1)[0]
    first = place.deploy("small", podid=small["id"])
    used = first["nic"][0]["ipaddress"]
    free = [f"{subnet}.{n}" for n in range(10, 14) if f"{subnet}.{n}" != used]
    for one in free[:2]:
        place.add(place.nic(first), ipaddress=one)
    refusal = place.user.refused("addIpToNic", nicid=place.nic(first), ipaddress=free[0])
    assert refusal == (530, f"Failed to assign secondary IP to NIC: {free[0]} is in use")
    assert place.deploy("last", podid=small["id"])["nic"][0]["ipaddress"] == free[2]
    assert place.user.refused("deployVirtualMachine", **_params(place) | {"podid": small["id"]})[0] == 533


def test_ranges_do_not_grow_over_networks(place: Place) -> None:
    place.add(place.one, cidr="10.2.0.224/28")
    span = {"podid": place.pod["id"], "startip": "10.2.0.200", "endip": "10.2.0.230"}
    assert "is allowed" in place.admin.refused("createVlanIpRange", **span)[1]
    place.admin.ok("createVlanIpRange", **span | {"endip": "10.2.0.223"})


def test_races_are_lost_by_one_of_both(place: Place) -> None:
    """What somebody else writes between a look and the write makes the command run again, on what is so then."""
    memory = place.cloud.memory
    write = memory.write

    def first(*rows: Any) -> None:
        def once(changes: Any, guards: Any = (), *, comment: str = "") -> None:
            memory.write = write  # type: ignore[method-assign]
            write(list(rows))
            write(changes, guards, comment=comment)

        memory.write = once  # type: ignore[method-assign]

    row = next(iter(memory.replica.all(CloudRow)))
    first(Insert(Address(id="a", address="10.2.0.210", nic=place.two)))
    assert "in use" in place.refused(place.one, ipaddress="10.2.0.210")[1]
    first(
        Insert(Allowance(id="b", nic=place.two, address="10.2.0.50")),
        Update(CloudRow, row.id, {"allowances": row.allowances + 1}),
    )
    refusal = place.user.refused("addIpToNic", nicid=place.one, ipaddress="10.2.0.50")
    assert refusal[1].endswith("10.2.0.50 is in use")
    with pytest.raises(Stale):
        write([], [Absent(Address, "address", "10.2.0.210")])


def test_several_hold_a_shared_address(place: Place) -> None:
    """It is in the groups of all holders, for as long as they have it and are in them."""
    web, db = place.group("web"), place.group("db")
    place.user.ok("updateVirtualMachine", id=place.vms[0]["id"], securitygroupids=f"{web},{db}")
    place.user.ok("updateVirtualMachine", id=place.vms[1]["id"], securitygroupids=web)
    vip = {"ipaddress": "10.2.0.210", "shared": "true"}
    ones, twos = place.add(place.one, **vip), place.add(place.two, **vip)
    assert ones["shared"] is True
    assert place.groups("10.2.0.210") == {web, db}
    assert "allowed" in place.refused(place.three, ipaddress="10.2.0.210")[1]
    place.admin.ok("removeAllowedAddressFromNic", id=ones["id"])
    assert place.groups("10.2.0.210") == {web}
    member = place.cloud.memory.replica.get(Member, member_id(web, "10.2.0.210"))
    assert member is not None and member.nic == place.two
    place.user.ok("updateVirtualMachine", id=place.vms[1]["id"], securitygroupids=db)
    assert place.groups("10.2.0.210") == {db}
    place.admin.ok("removeAllowedAddressFromNic", id=twos["id"])
    assert place.groups("10.2.0.210") == set()
    nic = place.cloud.memory.replica.get(Nic, place.two)
    assert nic is not None and nic.allowed == frozenset()
    place.add(place.three, ipaddress="10.2.0.210")


def test_regrouping_one_holder_keeps_the_others(place: Place) -> None:
    web, db = place.group("web"), place.group("db")
    for vm in place.vms[:2]:
        place.user.ok("updateVirtualMachine", id=vm["id"], securitygroupids=web)
    for nic in (place.one, place.two):
        place.add(nic, ipaddress="10.2.0.210", shared="true")
    place.user.ok("updateVirtualMachine", id=place.vms[0]["id"], securitygroupids=db)
    assert place.groups("10.2.0.210") == {web, db}
    place.user.ok("destroyVirtualMachine", id=place.vms[1]["id"], expunge="true")
    assert place.groups("10.2.0.210") == {db}


def shared(place: Place) -> dict[str, set[str]]:
    """What the pods' rows tell agents that NICs share."""
    return {pod.id: set(pod.shared) for pod in place.cloud.memory.replica.all(Pod)}


def test_a_pods_row_says_what_is_shared_in_it(place: Place) -> None:
    """From the first holder until the last, and nothing else."""
    here, far = place.pod["id"], place.far["id"]
    place.add(place.one, ipaddress="10.2.0.211")
    assert shared(place) == {here: set(), far: set()}
    ones = place.add(place.one, ipaddress="10.2.0.210", shared="true")
    place.add(place.two, ipaddress="10.2.0.210", shared="true")
    place.add(place.two, ipaddress="FD00:2::0:F", shared="true")
    assert shared(place) == {here: {"10.2.0.210", "fd00:2::f"}, far: set()}
    place.admin.ok("removeAllowedAddressFromNic", id=ones["id"])
    assert shared(place)[here] == {"10.2.0.210", "fd00:2::f"}
    place.user.ok("destroyVirtualMachine", id=place.vms[1]["id"], expunge="true")
    assert shared(place) == {here: set(), far: set()}


def test_pods_rows_of_an_earlier_release_are_completed(place: Place) -> None:
    here, far, memory = place.pod["id"], place.far["id"], place.cloud.memory
    place.add(place.one, ipaddress="10.2.0.210", shared="true")
    memory.write([Update(Pod, here, {"shared": frozenset()}), Update(Pod, far, {"shared": frozenset({"10.9.9.9"})})])
    complete_pods(memory)  # type: ignore[arg-type]
    assert shared(place) == {here: {"10.2.0.210"}, far: set()}
    writes = memory.writes
    complete_pods(memory)  # type: ignore[arg-type]
    assert memory.writes == writes


def test_holders_are_of_one_account_and_pod(place: Place) -> None:
    other = place.cloud.account("other")
    theirs, far = place.deploy("theirs", other), place.deploy("far", podid=place.far["id"])
    place.add(place.one, ipaddress="10.2.0.210", shared="true")
    assert "another account" in place.refused(place.nic(theirs), ipaddress="10.2.0.210", shared="true")[1]
    assert place.refused(place.nic(far), ipaddress="10.2.0.210", shared="true")[0] == 431


def test_a_virtual_mac_is_its_clusters(place: Place) -> None:
    """All hold an address with the same one; in another pod another account may have it, too."""
    vip = {"ipaddress": "10.2.0.210", "shared": "true"}
    ones = place.add(place.one, **vip, macaddress=VRRP4.upper())
    assert ones["macaddress"] == VRRP4 and ones["shared"] is True
    assert "goes with the virtual MAC" in place.refused(place.two, **vip)[1]
    assert "goes with the virtual MAC" in place.refused(place.two, **vip, macaddress="00:00:5e:00:01:34")[1]
    place.add(place.two, **vip, macaddress=VRRP4)
    place.add(place.two, ipaddress="fd00:2::210", shared="true", macaddress=VRRP6)
    place.add(place.three, ipaddress="10.2.0.211", shared="true")
    assert "no virtual MAC" in place.refused(place.one, ipaddress="10.2.0.211", shared="true", macaddress=VRRP4)[1]
    other = place.cloud.account("other")
    near, far = place.deploy("near", other), place.deploy("far", other, podid=place.far["id"])
    theirs = {"shared": "true", "macaddress": VRRP4}
    assert "another account's" in place.refused(place.nic(near), ipaddress="10.2.0.212", **theirs)[1]
    place.add(place.nic(far), ipaddress="10.3.0.210", **theirs)
    nic = place.cloud.memory.replica.get(Nic, place.two)
    assert nic is not None and nic.allowed == {f"10.2.0.210 {VRRP4} shared", f"fd00:2::210 {VRRP6} shared"}
    taken = deploy_params(place.user, place.zone, name="taken", podid=place.pod["id"], macaddress=VRRP4)
    assert "in use" in place.user.refused("deployVirtualMachine", **taken)[1]


def test_it_goes_with_its_vm(place: Place) -> None:
    place.add(place.one, ipaddress="10.2.0.210")
    place.add(place.one, cidr="10.9.0.0/24", macaddress=GUEST)
    place.user.ok("destroyVirtualMachine", id=place.vms[0]["id"])
    assert place.cloud.memory.replica.all(Allowance) == []
    assert place.groups("10.2.0.210") == place.groups("10.9.0.0/24") == set()
    place.add(place.two, ipaddress="10.2.0.210", macaddress=GUEST)


def test_the_quota(place: Place) -> None:
    for n in range(8):
        place.add(place.one, ipaddress=f"10.2.0.{210 + n}")
    assert place.refused(place.one, ipaddress="10.2.0.220")[0] == 532


def test_owners_see_and_admins_change(place: Place) -> None:
    other = place.cloud.account("other")
    added = place.add(place.one, ipaddress="10.2.0.210")
    place.add(place.nic(place.deploy("theirs", other)), ipaddress="10.2.0.211", macaddress=GUEST)
    assert place.user.ok("listAllowedAddresses", listall="true")["allowedaddress"] == [added]
    assert other.ok("listAllowedAddresses", id=added["id"], listall="true") == {}
    assert other.refused("listAllowedAddresses", nicid=place.one)[0] == 531
    assert other.refused("listAllowedAddresses", virtualmachineid=place.vms[0]["id"])[0] == 531
    assert place.admin.ok("listAllowedAddresses") == {}
    assert place.admin.ok("listAllowedAddresses", listall="true")["count"] == 2
    assert place.admin.ok("listAllowedAddresses", account="other")["count"] == 1
    assert place.admin.ok("listAllowedAddresses", listall="true", macaddress=GUEST)["count"] == 1
    assert place.admin.ok("listAllowedAddresses", listall="true", ipaddress="10.2.0.210")["allowedaddress"] == [added]
    assert place.admin.ok("listAllowedAddresses", virtualmachineid=place.vms[0]["id"])["allowedaddress"] == [added]
    for command, params in (
        ("addAllowedAddressToNic", {"nicid": place.one, "ipaddress": "10.2.0.212"}),
        ("removeAllowedAddressFromNic", {"id": added["id"]}),
    ):
        assert place.user.call(command, **params).status == 401
    assert place.admin.refused("removeAllowedAddressFromNic", id=place.one)[0] == 431
