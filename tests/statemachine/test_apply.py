"""A replica carries entries out, and notices what differs (design 6)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import apsw
import pytest

from rsqlite.config import Settings
from rsqlite.errors import DiskFault, DiskFull, Divergence, InvariantViolation, NodeFault
from rsqlite.raft.types import Configuration, Entry, EntryKind, Index, Term
from rsqlite.statemachine.apply import Application
from rsqlite.statemachine.command import Command, decode, encode
from rsqlite.statemachine.overruled import OVERRULED_MAX
from tests.statemachine.lab import TERM, Lab, ask

INSERT = "INSERT INTO t(v) VALUES(?)"


@pytest.fixture(autouse=True)
def table(lab: Lab) -> None:
    lab.do("CREATE TABLE t(id INTEGER PRIMARY KEY, v)")


def forged(lab: Lab, *requests: Any, **changes: Any) -> Entry:
    """An entry of the leader's with other columns, given to nobody yet."""
    batch = lab.leader.speculate(list(requests))
    assert batch.data is not None
    lab.leader.rollback(lambda: None)
    command = decode(batch.data)
    for name, value in changes.items():
        setattr(command, name, value)
    return Entry(TERM, lab.next_index, EntryKind.COMMAND, encode(command))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"changes": [2]}, r"is \(1, 1, 0\) here, \(2, 1, 0\) on the leader"),
        ({"rowids": [9]}, r"is \(1, 1, 0\) here, \(1, 9, 0\) on the leader"),
        ({"errors": {0: 2067}}, "2067.* on the leader"),
        ({"digest_from": 0, "digest": bytes(16)}, "row changes: digest"),
        ({"sqls": ["INSERT INTO missing(v) VALUES(?)"]}, "no such table: missing"),
        ({"sqls": ["INSERT INTO t(v) VALUES(? || random())"]}, "random"),
    ],
)
def test_a_difference_stops_the_replica_at_the_index_before(
    lab: Lab, changes: dict[str, Any], text: str
) -> None:
    entry = forged(lab, ask((INSERT, "a")), **changes)
    with pytest.raises(Divergence, match=text) as caught:
        lab.apply(lab.replica, [entry])
    assert f"entry {entry.index} of term 1" in str(caught.value)
    assert caught.value.index == entry.index
    assert lab.replica.applied_index == entry.index - 1
    answer = lab.query(ask("SELECT count(*) FROM t"), lab.replica)
    assert answer.results[0].rows == [(0,)]
    assert answer.index == entry.index - 1


def test_entries_before_the_one_that_differs_are_applied(lab: Lab) -> None:
    good = forged(lab, ask((INSERT, "a")))
    bad = forged(lab, ask((INSERT, "b")), rowids=[77])._replace(index=Index(good.index + 1))
    after = good._replace(index=Index(good.index + 2))
    with pytest.raises(Divergence):
        lab.apply(lab.replica, [good, bad, after])
    assert lab.replica.applied_index == good.index
    answer = lab.query(ask("SELECT v FROM t"), lab.replica)
    assert (answer.results[0].rows, answer.index) == ([("a",)], good.index)


def test_those_before_a_difference_are_applied_again_in_one_transaction_however_late_it_is(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = [forged(lab, ask((INSERT, "a")))]
    for _ in range(3):
        command = decode(entries[0].data)
        command.rowids = [len(entries) + 1]
        index = Index(entries[-1].index + 1)
        entries.append(Entry(TERM, index, EntryKind.COMMAND, encode(command)))
    bad = forged(lab, ask((INSERT, "b")), rowids=[77])
    entries.append(bad._replace(index=Index(entries[-1].index + 1)))
    carry_out, commit = Application._command, lab.replica._writer.commit
    commits: list[None] = []

    def slowly(self: Application, command: Command) -> None:
        lab.loop._now += lab.settings.write_loop_time_max / len(entries)
        carry_out(self, command)

    def counted() -> None:
        commits.append(None)
        commit()

    monkeypatch.setattr(Application, "_command", slowly)
    monkeypatch.setattr(lab.replica._writer, "commit", counted)
    with pytest.raises(Divergence) as caught:
        lab.apply(lab.replica, entries)
    assert caught.value.index == lab.replica.applied_index + 1 == entries[-1].index
    assert len(commits) == 1


def test_a_full_disk_while_those_before_a_difference_are_applied_again_is_told_as_such(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = forged(lab, ask((INSERT, "a")))
    bad = forged(lab, ask((INSERT, "b")), rowids=[77])._replace(index=Index(good.index + 1))
    commit = lab.replica._writer.commit

    def full() -> None:  # what differs is rolled back: this is the repetition's
        monkeypatch.setattr(lab.replica._writer, "commit", commit)
        error = apsw.FullError("database or disk is full")
        error.extendedresult = apsw.SQLITE_FULL  # type: ignore[attr-defined]
        raise error

    monkeypatch.setattr(lab.replica._writer, "commit", full)
    with pytest.raises(DiskFull):
        lab.apply(lab.replica, [good, bad])
    assert lab.replica.applied_index == good.index - 1
    with pytest.raises(Divergence) as caught:  # when there is room, nothing is left open
        lab.apply(lab.replica, [good, bad])
    assert caught.value.index == bad.index == lab.replica.applied_index + 1


@pytest.mark.parametrize(
    "changes",
    [
        {"changes": [2]},
        {"errors": {0: 2067}},
        {"digest_from": 0, "digest": bytes(16)},
        {"sqls": ["INSERT INTO missing(v) VALUES(?)"]},
    ],
)
def test_an_entry_that_was_overruled_is_carried_out_as_computed_here_and_remembered(
    lab: Lab, changes: dict[str, Any]
) -> None:
    before = forged(lab, ask((INSERT, "before")))
    entry = forged(lab, ask((INSERT, "a")), rowids=[2])
    command = decode(entry.data)
    for name, value in changes.items():
        setattr(command, name, value)
    entry = Entry(TERM, Index(before.index + 1), EntryKind.COMMAND, encode(command))
    with pytest.raises(Divergence) as caught:
        lab.apply(lab.replica, [before, entry])
    lab.replica.overruled[entry.index] = "something else"
    with pytest.raises(Divergence) as again:
        lab.apply(lab.replica, [entry])
    assert again.value.effects == caught.value.effects != ""
    lab.replica.overruled[entry.index] = caught.value.effects
    after = forged(lab, ask((INSERT, "b")), rowids=[2 if "sqls" in changes else 3])
    after = after._replace(index=Index(entry.index + 1))
    lab.apply(lab.replica, [entry, after])
    assert lab.replica.applied_index == after.index
    rows = lab.query(ask("SELECT v FROM t"), lab.replica).results[0].rows
    assert rows == [("before",), *([] if "sqls" in changes else [("a",)]), ("b",)]
    lab.replica.close()
    lab.replica = lab.open("replica")
    assert lab.replica.overruled == {entry.index: caught.value.effects}


def test_the_newest_entries_that_were_overruled_are_remembered_and_no_more(lab: Lab) -> None:
    for number in range(OVERRULED_MAX + 3):
        lab.replica.overrule(Index(number + 1), "computed")
    assert sorted(lab.replica.overruled) == list(range(4, OVERRULED_MAX + 4))


def test_counts_miss_values_and_the_digest_does_not(lab: Lab) -> None:
    lab.do("CREATE TABLE u(v)", "INSERT INTO u VALUES(1),(2),(3)")
    lab.replica._writer.engine("UPDATE u SET v = 30 WHERE v = 3")
    with pytest.raises(Divergence, match="row changes"):
        lab.do("INSERT INTO t(v) SELECT v FROM u")


def test_trigger_effects_are_covered(lab: Lab) -> None:
    lab.do("CREATE TABLE u(v)", "CREATE TABLE factor(n)", "INSERT INTO factor VALUES(2)")
    lab.do(
        "CREATE TRIGGER g AFTER INSERT ON t BEGIN INSERT INTO u SELECT new.v * n FROM factor; END"
    )
    lab.replica._writer.engine("UPDATE factor SET n = 3")
    with pytest.raises(Divergence, match="row changes"):
        lab.do((INSERT, 7))


def test_a_run_of_entries_is_one_transaction_with_one_applied_row(lab: Lab) -> None:
    first = forged(lab, ask((INSERT, "a")), digest_from=-1)
    entries = [first]
    for _ in range(3):
        command = decode(first.data)
        command.rowids = [len(entries) + 1]
        index = Index(entries[-1].index + 1)
        entries.append(Entry(TERM, index, EntryKind.COMMAND, encode(command)))
    lab.apply(lab.replica, entries)
    assert lab.replica.applied_index == entries[-1].index
    assert lab.replica.statistics().entries_applied == len(entries) + 1


def test_noops_and_configurations_move_the_applied_row(lab: Lab, tmp_path: Path) -> None:
    configuration = Configuration(fingerprint="f")
    entries = [
        Entry(Term(2), Index(2), EntryKind.NOOP, b""),
        Entry(Term(2), Index(3), EntryKind.CONFIGURATION, configuration.to_bytes()),
    ]
    lab.apply(lab.replica, entries)
    assert lab.replica.applied_index == 3
    assert lab.replica.applied_term == 2
    assert lab.replica.configuration == configuration
    lab.replica.close()
    lab.replica = lab.open("replica")
    assert (lab.replica.applied_index, lab.replica.applied_term) == (3, 2)
    assert lab.replica.configuration == configuration


def test_session_settings_are_set_before_begin_and_restored(lab: Lab) -> None:
    lab.do("CREATE TABLE p(id INTEGER PRIMARY KEY)", "INSERT INTO p VALUES(1)")
    lab.do("CREATE TABLE c(p REFERENCES p ON DELETE CASCADE)", "INSERT INTO c VALUES(1)")
    lab.do("PRAGMA foreign_keys = ON", "DELETE FROM p")
    assert lab.rows("SELECT count(*) FROM c") == [(0,)]
    assert lab.replica._writer.engine("PRAGMA foreign_keys") == [(0,)]


def test_an_unknown_entry_halts_the_node(lab: Lab) -> None:
    entry = Entry(TERM, lab.next_index, EntryKind.COMMAND, encode(Command(version=9)))
    with pytest.raises(NodeFault, match="version 9"):
        lab.apply(lab.replica, [entry])
    assert lab.replica.applied_index == entry.index - 1


def test_entries_are_applied_in_order_without_gaps(lab: Lab) -> None:
    entry = forged(lab, ask((INSERT, "a")))
    with pytest.raises(InvariantViolation):
        lab.apply(lab.replica, [entry._replace(index=Index(entry.index + 1))])


def test_a_full_disk_at_apply_is_this_nodes_fault_and_no_result(lab: Lab) -> None:
    entry = forged(lab, ask((INSERT, "x" * 200_000)))
    writer = lab.replica._writer
    writer.engine(f"PRAGMA max_page_count = {writer.engine('PRAGMA page_count')[0][0]}")
    with pytest.raises(DiskFault, match="SQLITE_FULL"):
        lab.apply(lab.replica, [entry])
    assert lab.replica.applied_index == entry.index - 1


def test_a_long_entry_is_applied_in_a_thread_while_reads_go_on(lab: Lab) -> None:
    outcome = lab.run_long(ask((INSERT, "a")))
    assert outcome.is_logged
    entry = lab.entries[-1]._replace(index=lab.next_index)
    command = decode(entry.data)
    command.rowids = [2]
    failed: list[BaseException | None] = []
    lab.replica.apply([entry._replace(data=encode(command))], failed.append)
    assert failed == []
    answer = lab.query(ask("SELECT count(*) FROM t"), lab.replica)
    assert answer.results[0].rows in ([(1,)], [(2,)])
    lab.loop.run()
    assert failed == [None]


def test_statistics_of_analyze_reach_other_connections_at_the_same_index(lab: Lab) -> None:
    lab.do("CREATE INDEX i ON t(v)", *[(INSERT, n % 3) for n in range(50)])
    for machine in (lab.leader, lab.replica):
        lab.query(ask("SELECT * FROM t WHERE v = 1"), machine)
    before = [m._writer.schema_version() for m in (lab.leader, lab.replica)]
    lab.do("ANALYZE")
    after = [m._writer.schema_version() for m in (lab.leader, lab.replica)]
    assert before[0] == before[1]
    assert after[0] == after[1] > before[0]
    assert lab.rows("SELECT tbl, idx, stat FROM sqlite_stat1") == [("t", "i", "50 17")]


@pytest.mark.parametrize("leads_with_fk", [True, False])
def test_foreign_keys_are_enforced_as_on_the_leader_whatever_the_own_setting(
    tmp_path: Path, leads_with_fk: bool
) -> None:
    lab = Lab(tmp_path / "keys", fk=leads_with_fk)
    lab.replica.close()
    lab.settings = Settings(fk=not leads_with_fk)
    lab.replica = lab.open("other")
    lab.do(
        "CREATE TABLE p(id INTEGER PRIMARY KEY)",
        "CREATE TABLE c(p REFERENCES p ON DELETE CASCADE)",
        "INSERT INTO p VALUES(1), (2)",
        "INSERT INTO c VALUES(1), (2)",
        "DELETE FROM p WHERE id = 1",
    )
    expected = [(2,)] if leads_with_fk else [(1,), (2,)]
    assert lab.rows("SELECT p FROM c ORDER BY p") == expected
    # What a request says for itself counts on both.
    lab.do(f"PRAGMA foreign_keys = {int(not leads_with_fk)}", "DELETE FROM p WHERE id = 2")
    assert lab.rows("SELECT p FROM c ORDER BY p") == ([(2,)] if leads_with_fk else [(1,)])
    lab.close()
