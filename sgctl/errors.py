# SPDX-License-Identifier: Apache-2.0
"""The exceptions that cross module borders."""


class SgctlError(Exception):
    """Anything that sgctl reports about its input or its surroundings; the text is meant for people."""


class StoreError(SgctlError):
    """The SG database did not do what was asked, and nothing of it."""


class Conflict(StoreError):
    """A row of `table` (a name as in the schema) with the same values of the unique `columns` exists already."""

    def __init__(self, text: str, table: str, columns: tuple[str, ...] = ()) -> None:
        super().__init__(text)
        self.table = table
        self.columns = columns


class Stale(StoreError):
    """What the change was based on is not true (any more): a guard failed, or a row that it needs is gone."""


class Referenced(StoreError):
    """A row of `table` cannot go because others refer to it."""

    def __init__(self, text: str, table: str) -> None:
        super().__init__(text)
        self.table = table


class Unavailable(StoreError):
    """The database cannot be reached or did not answer in time; if `uncertain`, it may have made the change."""

    def __init__(self, text: str, *, uncertain: bool = False) -> None:
        super().__init__(text)
        self.uncertain = uncertain
