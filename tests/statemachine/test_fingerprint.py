"""How a release is told from another, and how it makes and carries out entries of an older one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import MethodType

import msgspec
import pytest

from rsqlite.config import Settings
from rsqlite.errors import NodeFault
from rsqlite.raft.types import Configuration, Entry, EntryId, EntryKind
from rsqlite.request import Request, RequestKind
from rsqlite.statemachine import StateMachine
from rsqlite.statemachine.fingerprint import (
    BEHAVIOUR,
    behaviour_of,
    fingerprint_here,
    is_fingerprint,
)
from tests.statemachine.lab import TERM, Lab

ONE = f"1-sqlite-3.54.1-{'0' * 24}"
TWO = f"2-sqlite-3.54.1-{'0' * 24}"
WALL = 1_700_000_000.678
IN_FULL, IN_SECONDS = "2023-11-14 22:13:20.678", "2023-11-14 22:13:20.000"
INSERT = "INSERT INTO t(at) VALUES(strftime('%Y-%m-%d %H:%M:%f', 'now'))"


def test_a_release_can_tell_its_fingerprint_without_a_node(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    assert fingerprint_here(lab.settings) == lab.leader.fingerprint
    assert fingerprint_here(Settings(fk=True)) == lab.leader.fingerprint
    lab.close()


def test_a_fingerprint_says_its_behaviour_and_is_told_from_other_texts() -> None:
    here = fingerprint_here(Settings())
    assert is_fingerprint(here)
    assert behaviour_of(here) == BEHAVIOUR
    assert behaviour_of(TWO) == 2
    for text in ("", "x", here[:-1], here + "0", here.upper(), f"0{here}", f"{here}\n"):
        assert not is_fingerprint(text)
    assert behaviour_of("x") == 1


def knows_two(machine: StateMachine) -> None:
    """Make this the machine of a later release: by behaviour 2 'now' has no fractions."""
    machine.newest_behaviour = 2
    writer = machine._writer
    set_time = writer.vfs.set_time

    def rounded(_: object, time_ms: int) -> None:
        set_time(time_ms // 1000 * 1000 if writer.behaviour >= 2 else time_ms)

    writer.vfs.set_time = MethodType(rounded, writer.vfs)  # type: ignore[method-assign]


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """Both machines know behaviour 2."""
    lab = Lab(tmp_path, verify_digest="always")
    knows_two(lab.leader)
    knows_two(lab.replica)
    lab.loop._wall_offset = WALL - lab.loop.monotonic()
    yield lab
    lab.close()


def configure(lab: Lab, fingerprint: str, *machines: StateMachine) -> None:
    """A configuration of a cluster that computes so is applied."""
    data = Configuration(fingerprint=fingerprint).to_bytes()
    entry = Entry(TERM, lab.next_index, EntryKind.CONFIGURATION, data)
    lab.entries.append(entry)
    for machine in machines or (lab.leader, lab.replica):
        lab.apply(machine, [entry])


def version_of(entry: Entry) -> int:
    return int(msgspec.msgpack.decode(entry.data)[0])


def test_entries_are_made_by_the_behaviour_of_the_cluster(lab: Lab) -> None:
    configure(lab, ONE)
    lab.do("CREATE TABLE t(at)", INSERT)
    assert (lab.leader.behaviour, version_of(lab.entries[-1])) == (1, 1)
    assert lab.rows("SELECT at FROM t") == [(IN_FULL,)]
    configure(lab, TWO)
    lab.do(INSERT)
    assert (lab.leader.behaviour, version_of(lab.entries[-1])) == (2, 2)
    assert lab.rows("SELECT at FROM t") == [(IN_FULL,), (IN_SECONDS,)]


def test_an_entry_is_carried_out_by_its_own_behaviour_whatever_came_before_it(lab: Lab) -> None:
    """It was begun before the configuration that changes the behaviour, and stands behind it."""
    configure(lab, ONE)
    lab.do("CREATE TABLE t(at)")
    batch = lab.leader.speculate([_ask(INSERT)])
    assert batch.data is not None
    ended = Configuration(fingerprint=TWO)
    change = Entry(TERM, lab.next_index, EntryKind.CONFIGURATION, ended.to_bytes())
    insert = Entry(TERM, change.index + 1, EntryKind.COMMAND, batch.data)
    lab.entries += [change, insert]
    lab.leader.commit(EntryId(TERM, insert.index), ended, lambda error: None)
    lab.apply(lab.replica, [change, insert])
    assert lab.rows("SELECT at FROM t") == [(IN_FULL,)]


def test_a_log_of_two_behaviours_gives_the_same_database_again(lab: Lab, tmp_path: Path) -> None:
    configure(lab, ONE)
    lab.do("CREATE TABLE t(at)", INSERT)
    configure(lab, TWO)
    lab.do(INSERT)
    again = lab.open("again")
    knows_two(again)
    lab.apply(again, lab.entries)
    replica, lab.replica = lab.replica, again
    assert lab.rows("SELECT at FROM t") == [(IN_FULL,), (IN_SECONDS,)]
    replica.close()


def test_a_release_that_does_not_know_a_behaviour_halts(lab: Lab) -> None:
    older = lab.open("older")
    configure(lab, TWO)
    lab.do("CREATE TABLE t(at)")
    with pytest.raises(NodeFault, match="upgrade this node"):
        lab.apply(older, lab.entries)
    assert older.applied_index == 0
    older.close()


def test_without_a_cluster_the_newest_behaviour_counts(lab: Lab) -> None:
    assert lab.leader.behaviour == 2


def _ask(sql: str) -> Request:
    return Request(RequestKind.EXECUTE, [sql], [None])
