"""An image is the database as of one commit, whatever is written meanwhile."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import apsw
import pytest

from rsqlite.errors import DamagedDatabase, DamagedFile, ForeignDirectory
from rsqlite.statemachine import schema
from rsqlite.statemachine.checkpoint import Checkpointer
from rsqlite.statemachine.image import Copying, ImageUnwritten, Manifest, digest_of, read_image
from rsqlite.statemachine.vfs import load_checksum_vfs
from tests.statemachine.lab import Lab, flip

INSERT = "INSERT INTO t(v) VALUES(?)"


@pytest.fixture(autouse=True)
def table(lab: Lab) -> None:
    lab.do("CREATE TABLE t(id INTEGER PRIMARY KEY, v)")


def made(lab: Lab, directory: Path) -> tuple[Any, BaseException | None]:
    found: list[Any] = []
    assert lab.leader.checkpointer.make_image(
        str(directory), lambda value, error: found.append((value, error))
    )
    assert not lab.leader.checkpointer.make_image(str(directory), lambda value, error: None)
    # The checkpoint and the copy run in their thread: writers go on.
    lab.do((INSERT, "meanwhile"))
    lab.loop.run()
    ((value, error),) = found
    return value, error


def rows(path: str, sql: str) -> Any:
    flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
    connection = apsw.Connection(f"file:{path}?immutable=1", flags=flags)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def test_it_holds_what_was_committed_and_says_up_to_where(lab: Lab, tmp_path: Path) -> None:
    for number in range(20):
        lab.do((INSERT, "x" * 1000 * number))
    (path, manifest), error = made(lab, tmp_path / "images")
    assert error is None
    index, term, configuration = read_image(path)
    assert (index, term) == (manifest.last_index, manifest.last_term)
    assert configuration == lab.leader.configuration
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]
    # One entry made the table; each of the others is a row.
    assert rows(path, "SELECT count(*) FROM t") == [(index - 1,)]
    manifest.check()
    data = Path(path).read_bytes()
    assert len(data) == manifest.size
    chunks = [data[n : n + manifest.chunk_bytes] for n in range(0, len(data), manifest.chunk_bytes)]
    assert [digest_of(chunk) for chunk in chunks] == manifest.digests
    assert lab.rows("SELECT count(*) FROM t") == [(21,)]


EVERY_ROW = "UPDATE t SET v = {} || substr(v, -1000)"


def whole(path: str) -> Any:
    """Its rows, and how many different numbers they begin with: each commit gave all the same."""
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]
    return rows(path, "SELECT count(*), count(DISTINCT substr(v, 1, 5)) FROM t WHERE id <= 200")


def test_a_commit_while_the_checkpoint_runs_does_not_tear_the_image(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint passes over pages of which there is a newer frame than it may copy."""
    for _ in range(200):
        lab.do((INSERT, "x" * 1000))
    lab.do(EVERY_ROW.format(10_000))
    numbers = iter(range(20_000, 30_000))
    bring = Checkpointer._bring

    def with_a_commit(self: Checkpointer, connection: apsw.Connection, *, syncs: bool) -> Any:
        other = apsw.Connection(lab.leader.path, vfs=load_checksum_vfs())
        other.execute(EVERY_ROW.format(next(numbers)))
        found = bring(self, connection, syncs=syncs)
        other.execute(EVERY_ROW.format(next(numbers)))
        other.close()
        return found

    monkeypatch.setattr(Checkpointer, "_bring", with_a_commit)
    (path, _), error = made(lab, tmp_path / "images")
    assert error is None
    assert whole(path) == [(200, 1)]


def test_none_is_made_behind_a_reader_but_after_it(lab: Lab, tmp_path: Path) -> None:
    for _ in range(200):
        lab.do((INSERT, "x" * 1000))
    lab.do(EVERY_ROW.format(10_000))
    reader = apsw.Connection(lab.leader.path, vfs=load_checksum_vfs())
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM t").fetchall()
    lab.do(EVERY_ROW.format(20_000))
    value, error = made(lab, tmp_path / "images")
    assert value is None
    assert isinstance(error, ImageUnwritten)
    reader.close()
    (path, _), error = made(lab, tmp_path / "images")
    assert error is None
    assert whole(path) == [(200, 1)]


def test_several_are_different_and_checkpoints_go_on_between(lab: Lab, tmp_path: Path) -> None:
    indices = []
    for _ in range(3):
        lab.do((INSERT, "a"))
        (path, manifest), _ = made(lab, tmp_path / "images")
        indices.append(manifest.last_index)
        assert os.path.exists(path)
    assert indices == sorted(set(indices))
    assert lab.leader.checkpointer.checkpointed_index >= indices[-1] - 1


def test_an_image_that_cannot_be_written_leaves_nothing(lab: Lab, tmp_path: Path) -> None:
    lab.do((INSERT, "a"))
    blocked = tmp_path / "file"
    blocked.write_text("")
    value, error = made(lab, blocked)
    assert value is None
    assert isinstance(error, ImageUnwritten)
    lab.leader.maintain()
    lab.do((INSERT, "b"))


def test_no_image_is_made_of_a_damaged_page_whatever_it_holds(lab: Lab, tmp_path: Path) -> None:
    for number in range(20):
        lab.do((INSERT, "x" * 1000 * number))
    (path, manifest), _ = made(lab, tmp_path / "images")
    flip(lab.leader.path, manifest.size // 2)
    found: list[Any] = []
    directory = str(tmp_path / "images")
    lab.leader.checkpointer.make_image(directory, lambda *answer: found.append(answer))
    lab.loop.run()
    ((value, error),) = found
    assert value is None
    assert isinstance(error, DamagedDatabase)
    assert "fails its checksum" in str(error)
    assert lab.leader.fault is error, "who has such a page must not be used any more"
    assert os.listdir(tmp_path / "images") == [os.path.basename(path)]


def test_none_is_made_of_a_rotten_page_that_is_newer_in_the_wal(lab: Lab, tmp_path: Path) -> None:
    """The database here is as well as before; the image would be damaged, with the right digest."""
    lab.do(*[(INSERT, "x" * 3000)] * 40)
    lab.leader.checkpointer.request()
    lab.leader.maintain()
    lab.loop.run()
    flip(lab.leader.path, 20 * 4096 + 2000)
    lab.do("UPDATE t SET v = 'y' || v")
    with pytest.raises(ImageUnwritten, match="newer in the WAL"):
        Copying(lab.leader.path, str(tmp_path / "images")).step()
    assert lab.leader.fault is None
    # The next one begins with a checkpoint, that brings the newer one into the file.
    (path, _), error = made(lab, tmp_path / "images")
    assert error is None
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]


@pytest.mark.parametrize(
    ("size", "chunk_bytes", "digests"), [(10, 4, ["a"] * 2), (0, 4, []), (10, 0, []), (4, 4, [])]
)
def test_a_manifest_that_contradicts_itself_is_none(
    size: int, chunk_bytes: int, digests: list[str]
) -> None:
    with pytest.raises(ValueError, match="chunks"):
        Manifest("x", 1, 1, size, chunk_bytes, digests).check()


def test_what_is_no_image_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(DamagedFile, match="no image"):
        read_image(str(path))
    path.unlink()
    connection = apsw.Connection(str(path))
    connection.execute(schema.CREATE[0])
    connection.execute(schema.CREATE[1])
    connection.execute(schema.INSERT_APPLIED)
    connection.close()
    with pytest.raises(ForeignDirectory):
        read_image(str(path))
