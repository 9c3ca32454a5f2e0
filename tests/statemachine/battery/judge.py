"""Runs the requests of a case in a world and judges every answer against plain SQLite."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rsqlite.errors import RequestError, RsqliteError
from rsqlite.request import Failure, Result, Rows, Write
from tests.statemachine.battery.content import content, difference, exact
from tests.statemachine.battery.model import Ask, Expect, Sql
from tests.statemachine.battery.oracle import SKIPPED, Oracle, is_empty
from tests.statemachine.battery.world import Answer, World


@dataclass
class Trial:
    """One database in a world, and the same in plain SQLite."""

    world: World
    oracle: Oracle

    @staticmethod
    def begin(world: World, directory: Path, *, fk: bool = False) -> Trial:
        """A trial with nothing in it."""
        return Trial(world, Oracle(str(directory / "plain.db"), fk=fk))

    def end(self) -> None:
        """Close everything."""
        self.world.close()
        self.oracle.close()

    def run(self, asks: Sequence[Ask]) -> None:
        """Give all requests to the leader together; judge the answers."""
        answers, order = self.world.ask(asks)
        for position in order:
            self._judge(asks[position], answers[position])

    def read(self, ask: Ask) -> None:
        """Ask a read of every node; judge the answers."""
        for answer in self.world.query(ask):
            self._judge(ask, answer)

    def compare(self, *, with_oracle: bool, without: Iterable[str] = ()) -> None:
        """All nodes hold the same, and the same as plain SQLite but for the tables `without`."""
        for node in self.world.nodes:
            node.catch_up()
        first, *others = self.world.nodes
        contents = first.content()
        for node in others:
            text = difference(contents, node.content())
            assert not text, f"leader and the node that {node.way.value} differ: {text}"
            assert node.machine.applied_index == self.world.index
        if with_oracle:
            text = difference(contents, content(self.oracle.keeper), without=without)
            assert not text, f"nodes and plain SQLite differ: {text}"

    def _judge(self, ask: Ask, answer: Answer) -> None:
        if isinstance(answer, RsqliteError):
            _judge_refusal(ask, answer)
            return
        places = [i for i, sql in enumerate(ask.statements) if not is_empty(sql.text)]
        results = answer.results
        _judge_count(ask, results, len(places))
        refused = set()
        for place, result in zip(places, results, strict=False):
            sql = ask.statements[place]
            if sql.expect is Expect.REFUSED or (
                sql.expect is Expect.EITHER and isinstance(result, Failure)
            ):
                refused.add(place)
        expected = self.oracle.ask(ask, refused)
        shown = f"\n got      {results}\n expected {expected}"
        assert len(results) == len(expected), f"{len(results)} results{shown}"
        for place, result, plain in zip(places, results, expected, strict=False):
            judge_result(ask.statements[place], result, plain)


def run(one: Trial, asks: Sequence[Ask], *, batch_max: int) -> None:
    """Give the requests in their order, so many at a time; reads go to all nodes."""
    waiting: list[Ask] = []
    for ask in asks:
        if ask.kind == "query":
            if waiting:
                one.run(waiting)
            waiting = []
            one.read(ask)
            continue
        waiting.append(ask)
        if len(waiting) == batch_max:
            one.run(waiting)
            waiting = []
    if waiting:
        one.run(waiting)


def _judge_refusal(ask: Ask, error: RsqliteError) -> None:
    assert isinstance(error, RequestError), f"{ask.statements}: {error!r}"
    reasons = [s.why for s in ask.statements if s.expect is Expect.REFUSED]
    maybe = any(s.expect is Expect.EITHER for s in ask.statements)
    assert maybe or any(re.search(why, str(error)) for why in reasons), (
        f"refused without need: {error!r}: {ask.statements}"
    )


def _judge_count(ask: Ask, results: list[Result], expected: int) -> None:
    ends_early = ask.transaction and bool(results) and isinstance(results[-1], Failure)
    assert len(results) == expected or ends_early, f"{len(results)} results for {ask}: {results}"


def judge_result(sql: Sql, result: Result, plain: Result) -> None:
    """One answer against that of plain SQLite."""
    shown = f"{sql.text[:200]!r}\n got      {str(result)[:600]}\n expected {str(plain)[:600]}"
    if plain is SKIPPED:
        assert isinstance(result, Failure), f"not refused: {shown}"
        assert sql.expect is Expect.EITHER or re.search(sql.why, result.message), shown
        return
    match plain, result:
        case Write(), Write():
            pair = (result.last_insert_rowid, result.changes)
            if sql.expect is not Expect.VARIES:
                assert pair == (plain.last_insert_rowid, plain.changes), shown
        case Rows(), Rows():
            _judge_rows(sql, result, plain, shown)
        case Failure(), Failure():
            assert result.message == plain.message, shown
            assert (result.code, result.name) == (plain.code, plain.name), shown
            assert result.is_read == plain.is_read, shown
        case _:
            raise AssertionError(f"another kind of answer: {shown}")


def _judge_rows(sql: Sql, result: Rows, plain: Rows, shown: str) -> None:
    assert result.columns == plain.columns, shown
    assert result.decltypes == plain.decltypes, shown
    assert result.is_read == plain.is_read, shown
    if sql.expect is Expect.VARIES:
        return
    rows = [tuple(map(exact, row)) for row in result.rows]
    assert rows == [tuple(map(exact, row)) for row in plain.rows], shown
    if not plain.is_read:
        pair = (result.last_insert_rowid, result.changes)
        assert pair == (plain.last_insert_rowid, plain.changes), shown
