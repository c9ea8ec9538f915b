# SPDX-License-Identifier: Apache-2.0
"""The benchmark works, and its audit notices what it is there for."""

from collections.abc import Iterator

import pytest

from tests.bench import packets
from tests.bench.cloud import GROUP_PORT, Machine, Size
from tests.bench.events import Course
from tests.bench.hypervisor import BRIDGE
from tests.bench.stopwatch import Sample
from tests.bench.system import System

SIZE = Size(3, 2, 5)
NEAR = [Machine("near", number) for number in range(2)]
pytestmark = [pytest.mark.functional, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def measured() -> Iterator[tuple[System, dict[str, list[Sample]]]]:
    """A small cloud after all events and a first audit; its agent is stopped, so that nothing repairs the switch."""
    samples: dict[str, list[Sample]] = {}
    with System() as system:
        Course(system, SIZE, 1, samples.__setitem__).run()
        system.agent_process.stop()
        yield system, samples


def test_events_are_measured(measured: tuple[System, dict[str, list[Sample]]]) -> None:
    samples = measured[1]
    assert {"cold", "rule added", "member joins", "port removed", "group added", "switch restart"} <= samples.keys()
    assert samples["member joins"][0].mods == {"added": 1}
    assert samples["agent restart"][0].mods == {}
    assert samples["agent restart"][0].parts["lost"] == 0


def test_a_missing_flow_is_noticed(measured: tuple[System, dict[str, list[Sample]]]) -> None:
    system = measured[0]
    system.verify()
    system.sandbox.ofctl("del-flows", BRIDGE, f"tcp,tp_dst={GROUP_PORT}")
    with pytest.raises(AssertionError, match=f"tp_dst={GROUP_PORT}"):
        system.verify()


def test_a_packet_that_is_lost_or_passes_is_noticed(measured: tuple[System, dict[str, list[Sample]]]) -> None:
    system = measured[0]
    allowed, other = (packets.datagram(*NEAR, port=GROUP_PORT + n, sport=1) for n in (0, 1))
    control = packets.datagram(*NEAR, sport=2)
    with packets.wires(system, NEAR[0].name, NEAR[1]) as way:
        assert packets.judge(way, [(allowed, control, True), (other, control, False)]) == 2
        with pytest.raises(AssertionError, match="refused"):
            packets.judge(way, [(other, packets.datagram(*NEAR, sport=3), True)])
