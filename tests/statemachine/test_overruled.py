"""What an entry of a sick leader does on those that overrule it: unit by unit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rsqlite.errors import Divergence
from rsqlite.raft.types import Entry, EntryKind
from rsqlite.request import Request
from rsqlite.statemachine.command import decode
from rsqlite.statemachine.overruled import REPEATS_MAX
from tests.statemachine.lab import TERM, Lab, ask

ALICE = "UPDATE t SET v = v - 10 WHERE id = 1"
BOB = "UPDATE t SET v = v + 10 WHERE id = 2"
RECEIPT = "INSERT INTO receipt VALUES(1)"


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """The leader has lost a receipt that the replica holds, and has a parent more."""
    lab = Lab(tmp_path, fk=True)
    lab.do(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, v)",
        "INSERT INTO t VALUES(1, 100), (2, 100)",
        "CREATE TABLE receipt(id INTEGER PRIMARY KEY)",
        RECEIPT,
        "CREATE TABLE p(id INTEGER PRIMARY KEY)",
        "CREATE TABLE c(p REFERENCES p DEFERRABLE INITIALLY DEFERRED)",
    )
    lab.leader._writer.engine("DELETE FROM receipt")
    lab.leader._writer.engine("INSERT INTO p VALUES(1)")
    yield lab
    lab.close()


def overruled(lab: Lab, *requests: Request) -> Entry:
    """The entry of the sick leader, as the replica carries it out when a majority has decided."""
    batch = lab.leader.speculate(list(requests))
    assert batch.data is not None
    lab.leader.rollback(lambda: None)
    entry = Entry(TERM, lab.next_index, EntryKind.COMMAND, batch.data)
    with pytest.raises(Divergence) as caught:
        lab.apply(lab.replica, [entry])
    lab.replica.overrule(entry.index, caught.value.effects)
    lab.apply(lab.replica, [entry])
    assert lab.replica.applied_index == entry.index
    return entry


def values(lab: Lab) -> list[int]:
    rows = lab.query(ask("SELECT v FROM t ORDER BY id"), lab.replica).results[0].rows
    return [value for (value,) in rows]


def test_a_transaction_takes_effect_as_a_whole_or_not_at_all(lab: Lab) -> None:
    transfer = ask(ALICE, RECEIPT, BOB, transaction=True)
    entry = overruled(lab, ask("UPDATE t SET v = v + 1"), transfer, ask("UPDATE t SET v = v + 2"))
    assert values(lab) == [103, 103]
    assert decode(entry.data).transactions == [1]


def test_of_a_request_that_is_none_only_the_statement_that_fails_is_lost(lab: Lab) -> None:
    overruled(lab, ask(ALICE, RECEIPT, BOB))
    assert values(lab) == [90, 110]


def test_what_commit_would_refuse_is_taken_back_alone(lab: Lab) -> None:
    child = "INSERT INTO c VALUES(1)"
    overruled(lab, ask(ALICE), ask(child), ask(BOB, child, transaction=True), ask(BOB))
    assert values(lab) == [90, 110]
    assert lab.query(ask("SELECT count(*) FROM c"), lab.replica).results[0].rows == [(0,)]


def test_what_ends_the_transaction_takes_only_its_own_unit_with_it(lab: Lab) -> None:
    ending = "INSERT OR ROLLBACK INTO receipt VALUES(1)"
    overruled(lab, ask(ALICE), ask(BOB, ending, BOB, transaction=True), ask(BOB))
    assert values(lab) == [90, 110]


def test_repetitions_end(lab: Lab) -> None:
    lab.do("CREATE TABLE many(id INTEGER PRIMARY KEY)")
    count = REPEATS_MAX + 1
    for number in range(count):
        lab.replica._writer.engine("INSERT INTO many VALUES(?)", (number,))
    ending = [ask(f"INSERT OR ROLLBACK INTO many VALUES({number})") for number in range(count)]
    overruled(lab, ask(ALICE), *ending)
    assert values(lab) == [100, 100]


def test_a_statement_that_fails_there_as_well_keeps_what_it_did(lab: Lab) -> None:
    lab.do("CREATE TABLE u(id INTEGER PRIMARY KEY)", "INSERT INTO u VALUES(2)")
    overruled(lab, ask("INSERT OR FAIL INTO u VALUES(1), (2), (3)"), ask(RECEIPT), ask(ALICE))
    assert lab.query(ask("SELECT id FROM u"), lab.replica).results[0].rows == [(1,), (2,)]
    assert values(lab) == [90, 100]


@pytest.mark.parametrize("transaction", [True, False])
def test_counters_are_those_of_here_where_those_of_the_leader_came_about_as_here(
    lab: Lab, transaction: bool
) -> None:
    refund = ask(
        "DELETE FROM receipt WHERE id = 1",
        "UPDATE t SET v = v - changes() * 10 WHERE id = 1",
        transaction=transaction,
    )
    overruled(lab, ask(ALICE), refund, ask("UPDATE t SET v = v - changes() WHERE id = 2"))
    assert values(lab) == [80, 100]


def test_counters_that_nothing_in_the_entry_explains_are_those_of_the_leader(lab: Lab) -> None:
    wrong = "INSERT INTO t SELECT 1, 1"  # has no effect, and sets changes() to 0
    spend = "UPDATE t SET v = v - changes() * 10"
    overruled(lab, ask("UPDATE t SET v = v", wrong, spend), ask(RECEIPT))
    assert values(lab) == [100, 100]
