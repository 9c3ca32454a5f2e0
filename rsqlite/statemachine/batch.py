"""What comes out of a speculation, and what makes it begin again."""

from __future__ import annotations

from rsqlite.errors import RsqliteError
from rsqlite.request import Failure, Outcome

Key = tuple[int, int, int]
"""Names a statement: request in the batch, text in the request, statement in the text."""


class Batch:
    """What became of the requests of one `speculate`.

    `outcomes` is aligned with the requests; None: not taken into this batch, give it again in the
    next one. `over_budget` holds the positions of those that must be given to `speculate_long`.
    `data` is the entry to propose; None: nothing took effect, and no transaction is open.
    """

    __slots__ = ("data", "outcomes", "over_budget")

    def __init__(self, count: int) -> None:
        self.outcomes: list[Outcome | RsqliteError | None] = [None] * count
        self.over_budget: list[int] = []
        self.data: bytes | None = None


class Careful(Exception):
    """The batch must be run again, with savepoints."""


class Culprit(Exception):
    """The batch must be run again without the statement that ended the transaction. `outcome`: of
    the whole request, if a `transaction`. `is_overdue`: its time is over, for all the rest too."""

    def __init__(self, key: Key, failure: Failure, rowid: int, total: int) -> None:
        self.key, self.failure, self.rowid, self.total = key, failure, rowid, total
        self.is_overdue = False
        self.outcome: Outcome | None = None


class OverBudget(Exception):
    """The batch must be run again without the request that takes too long for the loop."""

    def __init__(self, position: int) -> None:
        self.position = position


class TooLarge(Exception):
    """The entry is over its cap."""
