# SPDX-License-Identifier: Apache-2.0
"""A walk in words, for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from flows import text
from flows.fields import CT_MARK, CT_STATES, IN_PORT, Bits
from flows.flow import (
    Action,
    Controller,
    Ct,
    CtClear,
    Goto,
    Learn,
    Load,
    Meter,
    Move,
    Output,
    OutputBits,
    Pop,
    Push,
    Resubmit,
)
from flows.headers import get, get_bits, put_bits
from flows.tables import TABLES
from flows.trace import Step, Walk

_TABLES = {table.id: table.name for table in TABLES}
_STATES = {"new": "new", "est": "established", "rel": "related", "rpl": "a reply", "inv": "invalid"}


@dataclass(frozen=True, slots=True)
class Explained:
    """One step in words: the table's name, the flow in ovs-ofctl's words (None: none matched), and a sentence."""

    table: str
    flow: str | None
    owner: str
    note: str
    actions: str
    text: str


def explain(
    walk: Walk, *, names: Mapping[int, str] = _TABLES, ports: Mapping[int, str] | None = None
) -> tuple[Explained, ...]:
    """Every step of a walk; `names` of tables and of `ports` (their numbers if they have none)."""
    known = ports or {}
    return tuple(_step(step, names, known) for step in walk.steps)


def _step(step: Step, names: Mapping[int, str], ports: Mapping[int, str]) -> Explained:
    table = names.get(step.table, f"table {step.table}")
    seen = f"conntrack says {_state(step)}; " if step.resumed else ""
    flow = step.flow
    if flow is None:
        return Explained(table, None, "", "", "", f"{table}: {seen}no flow matches, the packet is dropped.")
    note = flow.note or (str(flow.match) or "any packet")
    done = "the packet is dropped" if flow.drops else ", ".join(_all_words(flow.actions, step.headers, names, ports))
    sentence = f"{table}: {seen}{note}; {done}."
    return Explained(table, str(flow), flow.owner, flow.note, text.actions(flow.actions), sentence)


def _all_words(
    actions: Iterable[Action], headers: int, names: Mapping[int, str], ports: Mapping[int, str]
) -> Iterator[str]:
    for action in actions:
        word = _words(action, headers, names, ports)
        if isinstance(action, Load):
            headers = put_bits(headers, action.to, action.value)
        if word:
            yield word


def _state(step: Step) -> str:
    state, mark = step.state, get(step.headers, CT_MARK)
    found = " and ".join(word for name, word in _STATES.items() if state & CT_STATES[name])
    return f"{found}, of a connection marked {mark:#x}" if mark else found


def _words(action: Action, headers: int, names: Mapping[int, str], ports: Mapping[int, str]) -> str:
    """What an action does, or nothing for one that people need not know of."""
    if isinstance(action, Load):
        return f"{action.to.name} = {_value(action.to, action.value)}"
    if isinstance(action, Goto | Resubmit):
        return f"on to {names.get(action.table, f'table {action.table}')}"
    if isinstance(action, Ct):
        return _ct(action, names)
    if isinstance(action, Output | OutputBits):
        port = action.port if isinstance(action, Output) else get_bits(headers, action.bits)
        to = f"out by {ports.get(port, f'port {port}')}"
        return f"not {to}, by which it came in" if port == get(headers, IN_PORT) else to
    if isinstance(action, Move):
        return f"{action.to.name} = {_value(action.to, get_bits(headers, action.source))}"
    if isinstance(action, Pop):
        return f"{action.to.name} from the stack"
    if isinstance(action, Controller):
        return "shown to the agent"
    if isinstance(action, Learn):
        where = f"remembered in {names.get(action.table, f'table {action.table}')}"
        return f"{where} for {action.timeout} s" if action.timeout else where
    if isinstance(action, Meter):
        return "if its port keeps within its bound"
    return "" if isinstance(action, CtClear | Push) else str(action)


def _ct(action: Ct, names: Mapping[int, str]) -> str:
    to = names.get(action.table, f"table {action.table}")
    if action.commit:
        return f"the connection is remembered, on to {to}"
    return f"the connection is looked up, on to {to}"


def _value(bits: Bits, value: int) -> str:
    return str(value) if bits.width <= 16 else f"{value:#x}"
