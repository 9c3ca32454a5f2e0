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


class Again(Exception):
    """The batch must be run again."""


class Careful(Again):
    """With savepoints."""


class Culprit(Again):
    """Without the statement that ended the transaction."""

    def __init__(self, key: Key, failure: Failure, rowid: int, total: int) -> None:
        super().__init__()
        self.key = key
        self.failure = failure
        self.rowid = rowid
        self.total = total
        self.is_overdue = False
        """It was stopped because the request's time is over: so is everything after it."""
        self.outcome: Outcome | None = None
        """Of the whole request, when it was a `transaction`."""


class OverBudget(Again):
    """Without the request that takes too long for the loop."""

    def __init__(self, position: int) -> None:
        super().__init__()
        self.position = position


class TooLarge(Again):
    """The entry is over its cap."""
