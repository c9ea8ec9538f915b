# SPDX-License-Identifier: Apache-2.0
"""One bridge, as the agent sees it: read what is installed, change flows atomically, forget connections.

All methods block the calling (green) thread until the switch has answered, at most until their deadline.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from itertools import chain

from flows.flow import Action, Flow, Output
from flows.meters import FIRST, LAST, MeterSpec
from sgctl.openflow import compare, encode, messages, meters, ofctl, replies
from sgctl.openflow.compare import Entry
from sgctl.openflow.conversation import Channel, Conversation
from sgctl.openflow.early import Early
from sgctl.openflow.errors import Refused, SwitchError, SwitchGone
from sgctl.openflow.messages import Tuple
from sgctl.openflow.meters import Change
from sgctl.openflow.replies import Installed
from sgctl.openflow.shapes import Taken

DEADLINE = 10.0
"""Seconds until a switch that says nothing is given up."""
FLOWS_PER_SECOND = 5000
"""A bundle may take this much longer than `DEADLINE`; real switches are thirty times faster."""

_NONE: Mapping[Flow, bytes] = {}


class Switch:
    """The conversation with one bridge over one connection; a new connection is a new Switch."""

    def __init__(
        self, channel: Channel, *, bridge: str, datapath_id: int, management: str = "", deadline: float = DEADLINE
    ) -> None:
        """`management`: where ovs-ofctl finds the bridge, for example ``unix:/run/openvswitch/br-int.mgmt``."""
        self.bridge = bridge
        self.datapath_id = datapath_id
        self.management = management
        self._channel = channel
        self._deadline = deadline
        self._conversations: list[Conversation] = []
        self._taken = Taken()
        self._gone = False

    @property
    def alive(self) -> bool:
        """False once the connection is lost."""
        return not self._gone

    def receive(self, kind: int, xid: int, data: bytes) -> bool:
        """Take a message from the switch, and say whether it answers a request of ours. Never blocks."""
        for conversation in tuple(self._conversations):
            index = conversation.index(xid)
            if index is not None:
                conversation.take(index, kind, data)
                return True
        return False

    def gone(self) -> None:
        """The connection is lost: every wait ends with SwitchGone."""
        self._gone = True
        for conversation in tuple(self._conversations):
            conversation.lose()

    def close(self) -> None:
        """End the connection; the switch will connect again."""
        self._channel.close()

    def flows(self, *, cookie: int = 0, mask: int = 0) -> list[Installed]:
        """All installed flows whose cookie is `cookie` in the bits of `mask`, the switch's hidden ones left out."""
        with self._conversation(1) as talk:
            talk.send(messages.flow_stats(talk.xid(0), cookie=cookie, mask=mask))
            answers = self._answer(talk, 0, self._deadline)
        return list(replies.flow_entries(answers))

    def installed(self) -> dict[int, Installed]:
        """The installed flows of all tables by cookie; of several with one cookie (foreign, learned) the last."""
        return {flow.cookie: flow for flow in self.flows()}

    def table_counts(self) -> dict[int, int]:
        """The number of flows of each table that has any; cheap, whatever the number."""
        with self._conversation(1) as talk:
            talk.send(messages.table_stats(talk.xid(0)))
            return replies.table_counts(self._answer(talk, 0, self._deadline))

    def received(self, port: int) -> int:
        """How many frames a port has received; 0 if there is no such port."""
        with self._conversation(1) as talk:
            talk.send(messages.port_stats(talk.xid(0), port))
            return replies.received(self._answer(talk, 0, self._deadline))

    def entries(self, *, cookie: int = 0, mask: int = 0) -> list[Entry]:
        """Installed flows as `flows` takes them, with their matches and instructions, for comparisons."""
        with self._conversation(1) as talk:
            talk.send(messages.flow_stats(talk.xid(0), cookie=cookie, mask=mask))
            answers = self._answer(talk, 0, self._deadline)
        return list(compare.entries(answers))

    def apply(
        self,
        adds: Sequence[Flow],
        deletes: Sequence[tuple[int, int]] = (),
        *,
        removals: Sequence[Entry] = (),
        meanwhile: Callable[[], None] | None = None,
        early: Early | None = None,
    ) -> None:
        """Add or replace flows, then delete all flows of each (cookie, table): atomically, in this order.

        The single flows `removals` are deleted before. `meanwhile` is called before anything is in force, while the
        switch looks at what it has been sent. `early`: what has been sent of the adds already, without `removals`.

        Raises Refused, naming flows, if the switch does not take all of it; then nothing has changed.
        Raises SwitchGone if the connection is lost before the proof: all of it may be in force, or nothing; and if the
        switch refuses flows like which it has taken before: then the others are in force, and the connection is ended.
        """
        if not adds and not deletes and not removals:
            if meanwhile is not None:
                meanwhile()
            return
        early = early or Early(partial(Conversation, self._channel))
        adds = early.rest(adds)
        count = len(adds) + len(deletes) + len(removals)
        deadline = self._deadline + (count + early.sent) / FLOWS_PER_SECOND
        with self._conversation(count + 3) as talk:
            impossible = dict[Flow, str]()
            mods = chain(
                _removals(removals, talk, len(adds) + len(deletes)),
                _additions(adds, talk, impossible),
                _deletions(deletes, talk, len(adds)),
            )
            sure = not removals and not early.sent and self._taken.covers(adds)
            if count == 1 and not early.sent:
                self._change_one(talk, mods, deadline, meanwhile)
            else:
                self._change_together(talk, mods, deadline, meanwhile, impossible, early, sure=sure)
            if impossible:
                raise Refused(impossible)
            self._check(talk, adds, early.errors())
            if not sure:
                self._taken.note(adds)

    @contextmanager
    def early(self) -> Iterator[Early]:
        """What may be sent of a change before `apply`; without that, the switch forgets it in the end."""
        with ExitStack() as stack:
            early = Early(lambda count: stack.enter_context(self._conversation(count)))
            try:
                yield early
            finally:
                early.discard()

    def _change_one(
        self, talk: Conversation, mods: Iterable[bytes], deadline: float, meanwhile: Callable[[], None] | None
    ) -> None:
        """One change is atomic by itself, and the switch need not be asked twice."""
        if meanwhile is not None:
            meanwhile()
        talk.send(*mods, messages.barrier(talk.xid(1)))
        self._answer(talk, 1, deadline)

    def _change_together(
        self,
        talk: Conversation,
        mods: Iterable[bytes],
        deadline: float,
        meanwhile: Callable[[], None] | None,
        impossible: Mapping[Flow, str],
        early: Early,
        *,
        sure: bool,
    ) -> None:
        """Make all changes in one ordered atomic bundle; none if the switch refuses any, or one is `impossible`.

        sure: it has taken the like before, so it is not asked first, which saves a turn of its main loop. With nothing
        to be done meanwhile all is sent in one piece, which saves another.
        """
        bundle = talk.first if early.bundle is None else early.bundle
        barrier, control = talk.count - 2, talk.count - 1
        opening = () if early.sent else (messages.bundle_control(messages.OPEN, bundle, talk.xid(talk.count - 3)),)
        steps = list[int]()

        def end() -> Iterator[bytes]:
            steps.append(messages.DISCARD if talk.errors or early.errors() or impossible else messages.COMMIT)
            yield messages.bundle_control(steps[0], bundle, talk.xid(control))

        at_once = sure and meanwhile is None
        adds = (messages.bundle_add(bundle, mod) for mod in mods)
        asking = () if sure else (messages.barrier(talk.xid(barrier)),)
        talk.stream(chain(opening, adds, asking, end() if at_once else ()))
        try:
            if meanwhile is not None:
                meanwhile()
        except SwitchError:
            if not early.sent:
                with suppress(SwitchGone):
                    talk.send(messages.bundle_control(messages.DISCARD, bundle, talk.xid(control)))
            raise
        if not sure:
            # A bundle with a refused message would commit the others: look before.
            self._answer(talk, barrier, deadline)
        if not at_once:
            talk.stream(end())
        early.end()
        talk.answer(control, deadline)
        if steps == [messages.COMMIT] and talk.errors and control not in talk.errors:
            self.close()
            raise SwitchGone(f"the switch has taken only a part of a change: {_texts(talk)}")

    @staticmethod
    def _check(talk: Conversation, adds: Sequence[Flow], before: Mapping[Flow, bytes] = _NONE) -> None:
        """Raise if there were errors: Refused for flows, SwitchError for anything else."""
        if not talk.errors and not before:
            return
        texts = {index: replies.error_text(error) for index, error in sorted(talk.errors.items())}
        refused = {adds[index]: text for index, text in texts.items() if index < len(adds)}
        refused |= {flow: replies.error_text(error) for flow, error in before.items()}
        if refused:
            raise Refused(refused)
        raise SwitchError(f"the switch refused a change: {'; '.join(texts.values())}")

    def meter_capacity(self) -> int:
        """How many meters the switch can have that count packets; 0 if none."""
        with self._conversation(1) as talk:
            talk.send(meters.features_request(talk.xid(0)))
            return meters.capacity(self._answer(talk, 0, self._deadline)[0])

    def meters(self) -> dict[int, MeterSpec]:
        """The meters with sgctl's numbers."""
        with self._conversation(1) as talk:
            talk.send(meters.config_request(talk.xid(0)))
            answers = self._answer(talk, 0, self._deadline)
        return {one.number: one for one in meters.configured(answers) if FIRST <= one.number <= LAST}

    def metered(self) -> dict[int, int]:
        """How many packets each meter has dropped."""
        with self._conversation(1) as talk:
            talk.send(meters.stats_request(talk.xid(0)))
            return meters.dropped(self._answer(talk, 0, self._deadline))

    def change_meters(self, changes: Sequence[tuple[Change, MeterSpec]]) -> dict[int, str]:
        """Add, modify and delete meters, each for itself; the numbers of those that the switch refused, and why.

        With a meter the switch deletes the flows that use it.
        """
        refused = dict[int, str]()
        with self.changing_meters(changes, refused.update):
            return refused

    @contextmanager
    def changing_meters(
        self, changes: Sequence[tuple[Change, MeterSpec]], then: Callable[[Mapping[int, str]], None]
    ) -> Iterator[None]:
        """The same before what is sent within, whose answer is worth waiting for; then `then` hears what was refused.

        If the connection is lost, it hears nothing.
        """
        count = len(changes)
        with self._conversation(count + 1) as talk:
            mods = (meters.meter_mod(change, one, talk.xid(index)) for index, (change, one) in enumerate(changes))
            talk.send(*mods, messages.barrier(talk.xid(count)))
            try:
                yield
            finally:
                self._answer(talk, count, self._deadline)
                then({changes[index][1].number: replies.error_text(error) for index, error in talk.errors.items()})

    def drain(self, deadline: float | None = None) -> None:
        """Wait until the switch has processed everything sent so far."""
        with self._conversation(1) as talk:
            talk.send(messages.barrier(talk.xid(0)))
            self._answer(talk, 0, deadline or self._deadline)

    def set_fragment_mode(self) -> None:
        """Make the switch match fragments as the flows expect; it forgets this when it restarts."""
        with self._conversation(2) as talk:
            talk.send(messages.set_fragments(talk.xid(0)), messages.get_config(talk.xid(1)))
            flags = replies.config_flags(self._answer(talk, 1, self._deadline)[0])
        if flags != messages.FRAGMENTS_MATCH:
            raise SwitchError(f"the switch does not match fragments: its configuration flags are {flags:#x}")

    def matches_fragments(self) -> bool:
        """Whether it still does: anybody may change that, and then each fragment has the ports 0."""
        with self._conversation(1) as talk:
            talk.send(messages.get_config(talk.xid(0)))
            return replies.config_flags(self._answer(talk, 0, self._deadline)[0]) == messages.FRAGMENTS_MATCH

    def flush_connections(self, zone: int, originals: Sequence[Tuple]) -> None:
        """Forget a zone's connections whose original direction is like one of `originals`."""
        wanted = [one for original in originals for one in messages.flushable(original)]
        count = len(wanted)
        with self._conversation(count + 1) as talk:
            flushes = (messages.ct_flush(zone, one, talk.xid(index)) for index, one in enumerate(wanted))
            talk.send(*flushes, messages.barrier(talk.xid(count)))
            self._answer(talk, count, self._deadline)
            self._check(talk, ())

    def packet_out(self, port: int, data: bytes) -> None:
        """Send a frame out of a port. The switch confirms nothing."""
        self.run_actions([Output(port)], data)

    def run_actions(self, actions: Sequence[Action], data: bytes) -> None:
        """Run a frame through actions, as PACKET_OUT. The switch confirms nothing."""
        message = messages.packet_out(data, actions, self._channel.reserve(1))
        if self._gone or not self._channel.send(message):
            raise SwitchGone("the connection to the switch is lost")

    def dump_text(self, table: int | None = None, cookie: int | None = None) -> list[ofctl.TextFlow]:
        """Flows, of one table or cookie if given, with matches and actions in ovs-ofctl's words: for people; slow."""
        return ofctl.dump_flows(self.management, table, cookie, deadline=self._deadline)

    @contextmanager
    def _conversation(self, count: int) -> Iterator[Conversation]:
        if self._gone:
            raise SwitchGone("the connection to the switch is lost")
        conversation = Conversation(self._channel, count)
        self._conversations.append(conversation)
        try:
            yield conversation
        finally:
            self._conversations.remove(conversation)

    @staticmethod
    def _answer(talk: Conversation, index: int, deadline: float) -> list[bytes]:
        """The answer to one request; its error as SwitchError."""
        answers = talk.answer(index, deadline)
        if index in talk.errors:
            raise SwitchError(f"the switch refused a request: {replies.error_text(talk.errors[index])}")
        return answers


def _texts(talk: Conversation) -> str:
    """What the switch has complained of."""
    return "; ".join(dict.fromkeys(map(replies.error_text, talk.errors.values())))


def _additions(adds: Sequence[Flow], talk: Conversation, impossible: dict[Flow, str]) -> Iterator[bytes]:
    """Encoded flows; those that cannot be encoded are left out and noted."""
    for index, flow in enumerate(adds):
        try:
            yield encode.flow_mod(flow, talk.xid(index))
        except encode.INEXPRESSIBLE as error:
            impossible[flow] = f"cannot be expressed in OpenFlow: {error}"


def _deletions(deletes: Sequence[tuple[int, int]], talk: Conversation, start: int) -> Iterator[bytes]:
    for index, (cookie, table) in enumerate(deletes, start):
        yield encode.flow_delete(cookie, table, talk.xid(index))


def _removals(removals: Sequence[Entry], talk: Conversation, start: int) -> Iterator[bytes]:
    for index, one in enumerate(removals, start):
        yield encode.flow_removal(one.cookie, one.table, one.priority, one.match, talk.xid(index))
