# SPDX-License-Identifier: Apache-2.0
"""The SG database: a replica of frozen records to read from, durable transactions to write, interests to read less.

    with Database("unix:/var/lib/sgctl/sg.sock") as database:
        database.wait_insync(5)
        account = database.replica.one(Account, name_key="web")
        database.write([Insert(Group(id=str(uuid4()), account=account.id, name="db", name_key="db"))])

`database` is the connection, `replica` the records, `changes` what is written and how errors come back, `interest` the
part that an agent sees, `plugged` how it gets the NICs of new ports; `columns` maps records to rows, `link` and `wire`
are the connection's machinery below.
"""

from sgctl.store.changes import Absent, Change, Condition, Delete, Guard, Insert, Update
from sgctl.store.database import Database
from sgctl.store.interest import Interest
from sgctl.store.replica import Changes, Replica

__all__ = [
    "Absent", "Change", "Changes", "Condition", "Database", "Delete", "Guard", "Insert", "Interest", "Replica",
    "Update",
]  # fmt: skip
