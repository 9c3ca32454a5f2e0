"""An entry of which a majority computed something else than its leader: it is carried out, whatever
it expects.

Its leader has acknowledged it, and was wrong about what it does. What that is here, on all sound
nodes alike, is decided unit by unit, where a unit is a statement, or a request that is a
transaction. A unit that fails as it did not on the leader, or that COMMIT would refuse, is taken
back as a whole, and the others take effect. A statement that ends the transaction (OR ROLLBACK,
RAISE(ROLLBACK)) takes with it what came before: all is run again, without its unit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import apsw
import msgspec

from rsqlite.statemachine import results, schema
from rsqlite.statemachine.command import FLAG_STATISTICS, Command
from rsqlite.statemachine.connection import Writer
from rsqlite.statemachine.replay import Replay, is_about_content, requests

OVERRULED = "overruled"
"""In `_rsqlite_meta`: entries that a majority computed otherwise than they say."""
OVERRULED_MAX = 256
"""The newest of them that are remembered: who comes back with an older database fetches one."""
REPEATS_MAX = 64
"""So many units that end the transaction, and nothing of the entry takes effect."""


def carry_out(writer: Writer, command: Command, begin: Callable[[], None]) -> None:
    """`begin` ends the open transaction, and begins one as the entry wants it. Raises SQLite's
    error if it is no result of SQL."""
    skipped: set[int] = set()
    for _ in range(REPEATS_MAX):
        begin()
        ended = _run(writer, command, skipped)
        if ended is None:
            break
        skipped.add(ended)
    else:
        begin()
    if command.flags & FLAG_STATISTICS:
        writer.reload_statistics()  # some may have been taken back
        writer.raise_schema_version()


def remember(writer: Writer, overruled: Mapping[int, str]) -> None:
    """Keep in the database what was overruled."""
    kept = sorted(overruled.items())[-OVERRULED_MAX:]
    writer.engine(schema.SET_META, (OVERRULED, msgspec.json.encode(dict(kept))))


def _run(writer: Writer, command: Command, skipped: set[int]) -> int | None:
    """The first position of the unit that ended the transaction."""
    replay = Replay(writer, command, is_overruled=True)
    for first, end in _units(command):
        replay.begin(first)
        if first in skipped:
            continue
        writer.engine("SAVEPOINT rsqlite_unit")
        is_kept = _unit(writer, command, replay, range(first, end))
        if not writer.connection.in_transaction:
            return first
        if not is_kept or writer.has_unresolved_keys():
            writer.engine("ROLLBACK TO rsqlite_unit")
        writer.engine("RELEASE rsqlite_unit")
    return None


def _unit(writer: Writer, command: Command, replay: Replay, positions: range) -> bool:
    """False if it failed, and must be taken back."""
    for position in positions:
        try:
            replay.run(position)
        except apsw.Error as error:
            if not is_about_content(writer, error):
                raise
            if results.extended_code(error) != command.errors.get(position):
                return False
    return True


def _units(command: Command) -> Iterator[tuple[int, int]]:
    together = frozenset(command.transactions)
    for number, (first, end) in enumerate(requests(command)):
        if number in together:
            yield first, end
        else:
            yield from ((position, position + 1) for position in range(first, end))
