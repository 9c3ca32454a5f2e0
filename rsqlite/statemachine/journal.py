"""What a batch will write into its entry, column by column, while it is being run."""

from __future__ import annotations

from typing import Any

from rsqlite.statemachine.command import Command


class Journal:
    """The statements of the open transaction that took effect, in order.

    `mark` and `cut` take back what a savepoint took back.
    """

    __slots__ = (
        "changes",
        "counts",
        "errors",
        "parameters",
        "places",
        "resets",
        "rowids",
        "sqls",
        "streams",
        "texts",
        "transactions",
    )

    def __init__(self) -> None:
        self.places: dict[str, int] = {}
        self.sqls: list[str] = []
        self.texts: list[int] = []
        self.parameters: list[Any] = []
        self.changes: list[int] = []
        self.rowids: list[int] = []
        self.counts: list[int] = []
        self.errors: dict[int, int] = {}
        self.resets: dict[int, tuple[int, int, int]] = {}
        self.streams: dict[int, int] = {}
        self.transactions: list[int] = []

    def place(self, sql: str) -> int:
        """The number of this text in the entry."""
        place = self.places.get(sql)
        if place is None:
            place = self.places[sql] = len(self.sqls)
            self.sqls.append(sql)
        return place

    def mark(self) -> int:
        """The position that the next statement gets."""
        return len(self.changes)

    def add(self, sql: str, parameters: list[Any], changes: list[int], rowids: list[int]) -> None:
        """One text took effect with each of the parameters, and counted so after each."""
        self.texts.extend([self.place(sql)] * len(rowids))
        self.parameters.extend(parameters)
        self.changes.extend(changes)
        self.rowids.extend(rowids)

    def end_request(self, mark: int, *, is_transaction: bool) -> bool:
        """A request that began at `mark` is over. Has any of it taken effect?"""
        count = self.mark() - mark
        if not count:
            return False
        if is_transaction and count > 1:
            self.transactions.append(len(self.counts))
        self.counts.append(count)
        return True

    def cut(self, mark: int) -> None:
        """Forget everything from `mark` on."""
        for column in (self.texts, self.parameters, self.changes, self.rowids):
            del column[mark:]
        for sparse in (self.errors, self.resets, self.streams):
            for position in [position for position in sparse if position >= mark]:
                del sparse[position]

    def command(
        self,
        *,
        version: int,
        flags: int,
        time_ms: int,
        settings: tuple[tuple[str, int], ...],
        digest_from: int,
        digest: bytes,
    ) -> Command:
        """The entry. Columns that say the same everywhere are left empty."""
        return Command(
            version=version,
            flags=flags,
            times=[time_ms],
            settings=list(settings),
            counts=[] if len(self.counts) == len(self.changes) else self.counts,
            sqls=self.sqls,
            texts=[] if len(self.sqls) == 1 else self.texts,
            parameters=self.parameters,
            changes=self.changes,
            rowids=self.rowids,
            errors=self.errors,
            resets=self.resets,
            streams=self.streams,
            digest_from=digest_from,
            digest=digest,
            transactions=self.transactions,
        )
