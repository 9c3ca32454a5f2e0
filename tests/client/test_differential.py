"""Random autocommit calls give what sqlite3 gives: rows, descriptions, counts, errors.

`python tests/client/test_differential.py --calls 50000` plays the long game (`--seed` repeats one).

What is known to differ, and why:

1. executemany() and executescript() take effect together or not at all: each is one request. (The
   other side plays them inside BEGIN and COMMIT.)
2. After RETURNING `rowcount` is right at once, for the statement has run to its end; sqlite3 has 0
   until the last row is fetched, and from executemany() for good.
3. fetchmany(0) gives no rows, as it says; sqlite3 gives all.
4. A row with rowid 0 leaves `lastrowid` as it was: an answer with 0 tells of no rowid.
5. A statement that failed leaves `lastrowid` and `changes()` as they were; in sqlite3 they may tell
   of rows that the statement made and took back.
6. executemany() looks at all parameters before it runs anything.
7. A statement runs to its end at once, so an error in a later row is raised by execute(), and rows
   do not change while they are fetched.
8. A statement that was compiled before its table was dropped is compiled again at once.
9. Functions that count for a connection work alone in a SELECT, and in scripts, where they begin at
   0; elsewhere they are refused, with what to use instead.
10. BEGIN, COMMIT and their kin, and rollback(), need a session, which is not there yet.
11. What cannot be replicated is refused: ATTACH, TEMP objects, rowid 2^63-1, PRAGMAs with a value
    (all but user_version and application_id; settings of a connection need a session).
12. TEXT that is no UTF-8 cannot be read; it is an OperationalError in both, with other words.
13. The adapters and converters of dates that sqlite3 has by default are deprecated there, and are
    not here.
14. A type in a message has no module before its name (`Decimal`, `decimal.Decimal`).
15. Named placeholders take a sequence, which sqlite3 deprecates from Python 3.12 on.
16. Where SQLite 3.40 and the server's SQLite differ, so do the answers.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from typing import Any

import pytest

import rsqlite
from rsqlite.testing.cluster import ProcessCluster
from rsqlite.testing.process import ProcessNode
from tests.client.random_calls import Call, Calls
from tests.client.sides import AsyncSide, Side, Stdlib, register

CALLS = 1500
EMPTY = ("", "-- nothing")


class Difference(AssertionError):
    """The two sides gave different outcomes."""


@contextmanager
def sync_side(url: str) -> Iterator[Side]:
    with closing(rsqlite.connect(url, detect_types=rsqlite.PARSE_DECLTYPES)) as connection:
        yield Side(connection)


@contextmanager
def async_side(target: str) -> Iterator[Side]:
    with asyncio.Runner() as runner:
        connection = rsqlite.aio.connect(target, detect_types=rsqlite.PARSE_DECLTYPES)
        runner.run(opened(connection))
        try:
            yield AsyncSide(connection, runner)
        finally:
            runner.run(connection.close())


async def opened(connection: rsqlite.aio.Connection) -> None:
    await connection


def local_side(url: str) -> AbstractContextManager[Side]:
    return sync_side(":memory:")


def local_async_side(url: str) -> AbstractContextManager[Side]:
    return async_side(":memory:")


SHELLS = {
    "sync": sync_side,
    "async": async_side,
    "local": local_side,
    "local-async": local_async_side,
}


class Comparison:
    """One stream of calls on both sides."""

    def __init__(self, ours: Side, calls: Calls) -> None:
        register()
        self.ours, self.theirs, self.calls = ours, Stdlib(), calls
        self.raised = 0
        self.history: list[Call] = []
        self._is_rowid_off = False
        """A statement failed, after it had made a row perhaps (difference 5), or made one with
        rowid 0."""
        self._cursors_off: set[int | None] = set()
        self._counts_off: set[int | None] = set()

    def run(self, count: int) -> int:
        """Play `count` calls; how many of them raised."""
        with closing(self.theirs):
            for call in self.calls.beginning():
                self.play(call)
            for _ in range(count):
                self.play(self.calls.next())
        return self.raised

    def play(self, call: Call) -> None:
        self.history.append(call)
        wanted, found = self.theirs.play(call), self.ours.play(call)
        if not self.is_alike(call, wanted, found):
            raise Difference(
                f"seed {self.calls.seed}, call {len(self.history)}: {call}\nsqlite3: {wanted}\n"
                f"ours:    {found}\nbefore: {self.history[-8:-1]}"
            )
        self.raised += is_error(wanted) and wanted[0][1] != "StopIteration"

    def is_alike(self, call: Call, wanted: Any, found: Any) -> bool:
        if call.method.startswith("execute"):
            self._note_rowid(call, wanted, found)
        if call.on in self._counts_off and not call.method.startswith("execute"):
            return True
        if call.on in self._cursors_off and wanted[1] is not None and found[1] is not None:
            for _, state in (wanted, found):
                state.pop("lastrowid", None)
        if call.method == "new cursor":
            self._cursors_off.discard(call.on)
        return bool(wanted == found)

    def _note_rowid(self, call: Call, wanted: Any, found: Any) -> None:
        """Where the last rowid may differ."""
        if is_error(wanted):
            self._is_rowid_off = True
            return
        if call.method != "execute":
            return
        state, other = wanted[1], found[1] or {}
        sql = str(call.arguments[0])
        if state["rowcount"] > 0 and ("INSERT" in sql or "REPLACE" in sql):
            self._is_rowid_off = state.get("lastrowid") != other.get("lastrowid")
        elif state.get("lastrowid") == 0:
            self._is_rowid_off = True  # difference 4
        if sql.strip("; ") in EMPTY:
            return
        shows_it = "last_insert_rowid" in sql.lower()
        for cursors, is_off in (
            (self._cursors_off, self._is_rowid_off),
            (self._counts_off, self._is_rowid_off and shows_it),
        ):
            (cursors.add if is_off else cursors.discard)(call.on)


def is_error(outcome: Any) -> bool:
    return isinstance(outcome[0], tuple) and outcome[0][0] == "raised"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*named parameter:DeprecationWarning")
@pytest.mark.parametrize("shell", SHELLS)
def test_random_calls_give_what_sqlite3_gives(shell: str, rsqlite_node: ProcessNode) -> None:
    with SHELLS[shell](rsqlite_node.url) as side:
        raised = Comparison(side, Calls(seed=1)).run(CALLS)
    assert CALLS / 20 < raised < CALLS / 2


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=50_000)
    parser.add_argument("--round", type=int, default=2_000, help="calls with one database")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--shell", choices=list(SHELLS), action="append")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, ProcessCluster(1, directory) as cluster:
        (node,) = cluster.nodes
        for shell in arguments.shell or SHELLS:
            played = raised = 0
            while played < arguments.calls:
                node.clear()
                calls = Calls(arguments.seed + played)
                with SHELLS[shell](node.url) as side:
                    raised += Comparison(side, calls).run(arguments.round)
                played += arguments.round
            print(f"{shell}: {played} calls, {raised} of them raised, no difference")
    return 0


if __name__ == "__main__":
    sys.exit(main())
