"""What SQLite's errors mean here."""

from __future__ import annotations

import apsw
import pytest

from rsqlite.errors import DamagedDatabase, DiskFault, DiskFull, Divergence, DoubtedDatabase
from rsqlite.statemachine import results


def error(kind: type[apsw.Error], code: int) -> apsw.Error:
    found = kind("text")
    vars(found).update(result=code & 255, extendedresult=code)
    return found


@pytest.mark.parametrize(
    ("code", "is_result"),
    [
        (apsw.SQLITE_CONSTRAINT_UNIQUE, True),
        (apsw.SQLITE_ERROR, True),
        (apsw.SQLITE_MISMATCH, True),
        (apsw.SQLITE_TOOBIG, True),
        (apsw.SQLITE_RANGE, True),
        (apsw.SQLITE_AUTH, True),
        (apsw.SQLITE_FULL, False),
        (apsw.SQLITE_INTERRUPT, False),
        (apsw.SQLITE_NOMEM, False),
        (apsw.SQLITE_BUSY, False),
        (apsw.SQLITE_CORRUPT, False),
        (apsw.SQLITE_IOERR_WRITE, False),
    ],
)
def test_only_six_codes_are_results_of_sql(code: int, is_result: bool) -> None:
    assert results.is_statement_result(code) is is_result


@pytest.mark.parametrize(
    ("kind", "code", "fault"),
    [
        (apsw.IOError, apsw.SQLITE_IOERR_WRITE, DiskFault),
        # What SQLite makes of EIO under a read: a cable, perhaps; no reason to give the file up.
        # Within a statement it makes of that SQLITE_CORRUPT.
        (apsw.IOError, apsw.SQLITE_IOERR_CORRUPTFS, DiskFault),
        (apsw.IOError, apsw.SQLITE_IOERR_SHMSIZE, None),
        # No directory for temporary files: none of ours is at fault.
        (apsw.IOError, apsw.SQLITE_IOERR_GETTEMPPATH, None),
        (apsw.IOError, apsw.SQLITE_IOERR_DATA, DamagedDatabase),
        (apsw.CorruptError, apsw.SQLITE_CORRUPT, DoubtedDatabase),
        (apsw.NotADBError, apsw.SQLITE_NOTADB, DamagedDatabase),
        (apsw.CantOpenError, apsw.SQLITE_CANTOPEN, DiskFault),
        (apsw.CorruptError, apsw.SQLITE_CORRUPT_VTAB, None),
        (apsw.ConstraintError, apsw.SQLITE_CONSTRAINT, None),
        (apsw.FullError, apsw.SQLITE_FULL, None),
    ],
)
def test_faults_of_the_node_are_told_apart(
    kind: type[apsw.Error], code: int, fault: type[Exception] | None
) -> None:
    found = results.node_fault(error(kind, code))
    assert (type(found) if found else None) is fault


def test_a_fault_stays_the_fault_it_is() -> None:
    divergence = Divergence("different")
    assert results.node_fault(divergence) is divergence
    assert results.node_fault(TypeError("x")) is None


def test_at_commit_nothing_is_a_result() -> None:
    found = results.commit_fault(error(apsw.ConstraintError, apsw.SQLITE_CONSTRAINT))
    assert isinstance(found, DiskFault)
    assert "SQLITE_CONSTRAINT" in str(found)


@pytest.mark.parametrize(
    ("kind", "code"),
    [(apsw.FullError, apsw.SQLITE_FULL), (apsw.IOError, apsw.SQLITE_IOERR_SHMSIZE)],
)
def test_a_commit_without_room_is_told_from_a_disk_that_fails(
    kind: type[apsw.Error], code: int
) -> None:
    assert isinstance(results.commit_fault(error(kind, code)), DiskFull)


def test_failures_carry_code_and_symbol() -> None:
    failure = results.failure(error(apsw.ConstraintError, apsw.SQLITE_CONSTRAINT_UNIQUE))
    assert (failure.message, failure.code, failure.name) == (
        "text",
        2067,
        "SQLITE_CONSTRAINT_UNIQUE",
    )
    assert results.code_name(apsw.SQLITE_ERROR | (250 << 8)) == "SQLITE_ERROR"


def test_what_is_about_the_clients_sql() -> None:
    assert results.is_answer(OverflowError())
    assert results.is_answer(apsw.SQLError())
    assert not results.is_answer(AssertionError())
    assert not results.is_answer(MemoryError())


def test_who_sorts_without_a_directory_for_temporary_files_hears_what_is_missing() -> None:
    failure = results.failure(error(apsw.IOError, apsw.SQLITE_IOERR_GETTEMPPATH), is_read=True)
    assert failure.name == "SQLITE_IOERR_GETTEMPPATH"
    assert "SQLITE_TMPDIR" in failure.message
