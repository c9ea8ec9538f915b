# SPDX-License-Identifier: Apache-2.0
"""A command of the API as one declaration, and a call of it.

The declaration is all there is: parsing, validation, authorisation, jobs, the answer's envelope, listApis and with it
the completion of the command line follow from it. Commands live in `sgctl.api.commands`, a module per noun.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeAlias
from uuid import uuid4

from sgctl.api.draft import Draft
from sgctl.api.params import Args, Param
from sgctl.api.settings import Settings
from sgctl.model import Account, User

if TYPE_CHECKING:
    from sgctl.api.rendered import Rendered

Object: TypeAlias = dict[str, Any]
"""A JSON object of an answer."""

ROOT_ADMIN = 1


class Mode(Enum):
    """When a command is done: when answered, as a job, or as a job that makes an object whose id is answered."""

    SYNC = "sync"
    ASYNC = "async"
    ASYNC_CREATE = "async create"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who signed the request."""

    account: Account
    user: User

    @property
    def admin(self) -> bool:
        """Whether it is a root admin; a domain admin is a user of the one domain there is."""
        return self.account.type == ROOT_ADMIN


@dataclass(frozen=True, slots=True)
class Page:
    """Part of a list; `count` is of the whole.  Items are objects, or texts that `sgctl.api.rendered` has made."""

    count: int
    items: Sequence[Object | str]


@dataclass(frozen=True, slots=True)
class Call:
    """One run of a command. `now`: milliseconds of Unix time."""

    command: Command
    caller: Caller
    args: Args
    draft: Draft
    rendered: Rendered
    settings: Settings
    catalogue: tuple[Command, ...]
    now: int


@dataclass(frozen=True, slots=True)
class Barrier:
    """The answer of a job that ends only when these hosts (by name) have installed what the command changed.

    patience_ms: how long the job waits for them; None: as long as the settings say.
    """

    answer: Object | None
    hosts: frozenset[str]
    patience_ms: int | None = None


Answer: TypeAlias = Object | Page | Barrier | None
Handler: TypeAlias = Callable[[Call], Answer]


@dataclass(frozen=True, slots=True)
class Command:
    """A command; its `run` gives the object that `answer` names, a page of such objects, or None for mere success."""

    name: str
    description: str
    params: tuple[Param, ...]
    answer: str
    mode: Mode
    admin: bool
    envelope: str
    run: Handler

    def wrap(self, answer: Answer) -> Object:
        """What stands in the envelope. An empty list is an empty object: clients stumble over anything else."""
        match answer:
            case Barrier(answer=awaited):
                return self.wrap(awaited)
            case None:
                return {"success": True}
            case Page(count=0):
                return {}
            case Page(count=count, items=[]):
                return {"count": count}
            case Page(count=count, items=items):
                return {"count": count, self.answer: items}
            case _:
                return {self.answer: answer} if self.answer else answer

    def allowed(self, caller: Caller) -> bool:
        """Whether the caller's role may use it."""
        return caller.admin or not self.admin


def command(
    name: str,
    description: str,
    *params: Param,
    answer: str = "",
    mode: Mode = Mode.SYNC,
    admin: bool = False,
    envelope: str = "",
) -> Callable[[Handler], Command]:
    """Declare the command that the decorated function carries out; `envelope` only where CloudStack has an odd one."""

    def declare(run: Handler) -> Command:
        return Command(name, description, params, answer, mode, admin, envelope or f"{name.lower()}response", run)

    return declare


def new_id() -> str:
    """An id for a new row."""
    return str(uuid4())
