"""The statements of an entry one after the other, and what an error in them is about."""

from __future__ import annotations

import pytest

from rsqlite.errors import DiskFull, Divergence
from rsqlite.raft.types import Entry, EntryKind
from rsqlite.statemachine.command import Command
from rsqlite.statemachine.replay import requests
from tests.statemachine.lab import TERM, Lab, ask

INSERT = "INSERT INTO auto(v) VALUES(?)"


@pytest.mark.parametrize(
    ("counts", "found"), [([], [(0, 1), (1, 2), (2, 3)]), ([2, 1], [(0, 2), (2, 3)])]
)
def test_each_request_has_its_statements(counts: list[int], found: list[tuple[int, int]]) -> None:
    assert list(requests(Command(counts=counts, changes=[1, 1, 1]))) == found


def test_a_request_has_counters_of_its_own(lab: Lab) -> None:
    lab.do("CREATE TABLE seen(changes, total, rowid)")
    see = "INSERT INTO seen VALUES(changes(), total_changes(), last_insert_rowid())"
    lab.run(ask(see, see), ask(see, see))
    assert lab.rows("SELECT * FROM seen") == [(0, 0, 0), (1, 1, 1), (0, 0, 0), (1, 1, 3)]


@pytest.mark.parametrize("name", ["auto", 'a "quoted" name'])
@pytest.mark.parametrize("sql", ["INSERT INTO {} VALUES(?, 'x')", "UPDATE {} SET id = ?"])
def test_ids_that_are_used_up_are_no_full_disk(lab: Lab, name: str, sql: str) -> None:
    table = '"' + name.replace('"', '""') + '"'
    lab.do(f"CREATE TABLE {table}(id INTEGER PRIMARY KEY AUTOINCREMENT, v)")
    lab.do(f"INSERT INTO {table}(v) VALUES('a')")
    lab.replica._writer.engine(sql.format(table), (2**63 - 1,))
    with pytest.raises(Divergence, match="SQLITE_FULL"):
        lab.do(f"INSERT INTO {table}(v) VALUES('b')")


@pytest.mark.parametrize("has_ids", [True, False])
def test_a_full_disk_is_one_whatever_ids_there_are(lab: Lab, has_ids: bool) -> None:
    key = "INTEGER PRIMARY KEY AUTOINCREMENT" if has_ids else "INTEGER PRIMARY KEY"
    lab.do(f"CREATE TABLE auto(id {key}, v)", (INSERT, "a"))
    batch = lab.leader.speculate([ask((INSERT, "x" * 200_000))])
    assert batch.data is not None
    lab.leader.rollback(lambda: None)
    writer = lab.replica._writer
    writer.engine(f"PRAGMA max_page_count = {writer.engine('PRAGMA page_count')[0][0]}")
    entry = Entry(TERM, lab.next_index, EntryKind.COMMAND, batch.data)
    with pytest.raises(DiskFull):
        lab.apply(lab.replica, [entry])
