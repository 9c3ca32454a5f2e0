"""CURRENT, the generations, and files that are not ours."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import apsw
import pytest

from rsqlite.errors import DamagedDatabase, DamagedFile, DiskFault, DiskFull, ForeignDirectory
from rsqlite.raft.types import Configuration
from rsqlite.statemachine import schema
from rsqlite.statemachine.vfs import load_checksum_vfs
from tests.statemachine.lab import QUERY, Lab, ask


def test_a_new_root_gets_its_first_generation(tmp_path: Path) -> None:
    root = tmp_path / "db"
    assert schema.current_database(str(root)) == str(root / "1" / "main.db")
    assert (root / "CURRENT").read_text(encoding="ascii").startswith("1\n")
    assert not (root / "CURRENT.new").exists()


@pytest.mark.parametrize(("number", "fault"), [(errno.EIO, DiskFault), (errno.ENOSPC, DiskFull)])
def test_a_root_that_cannot_be_prepared_is_a_fault_of_the_disk(
    number: int, fault: type[DiskFault], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("os.fsync", refuse)
    with pytest.raises(DiskFault) as caught:
        schema.current_database(str(tmp_path / "db"))
    assert type(caught.value) is fault


def test_current_names_the_database_in_use(tmp_path: Path) -> None:
    schema.current_database(str(tmp_path))
    schema.set_current(str(tmp_path), 12)
    assert schema.current_database(str(tmp_path)) == str(tmp_path / "12" / "main.db")


def add_generation(root: Path, number: int) -> None:
    (root / str(number)).mkdir(parents=True)
    (root / str(number) / "main.db").touch()


def test_every_flipped_bit_of_current_is_noticed_and_the_only_generation_used(
    tmp_path: Path,
) -> None:
    add_generation(tmp_path, 12)
    schema.set_current(str(tmp_path), 12)
    good = (tmp_path / "CURRENT").read_bytes()
    for bit in range(8 * len(good)):
        data = bytearray(good)
        data[bit // 8] ^= 1 << bit % 8
        (tmp_path / "CURRENT").write_bytes(data)
        current = schema.read_current(str(tmp_path))
        assert current.generation == 12
        assert str(tmp_path / "CURRENT") in current.problem
    assert schema.current_database(str(tmp_path)) == str(tmp_path / "12" / "main.db")
    assert (tmp_path / "CURRENT").read_bytes() == good, "it is written again"


@pytest.mark.parametrize("text", ["", "one\n", "1\n2\n", "../1\n", "-1\n", "12\n00000000\n", None])
def test_where_several_generations_are_there_a_damaged_current_costs_the_database(
    tmp_path: Path, text: str | None
) -> None:
    add_generation(tmp_path, 3)
    add_generation(tmp_path, 4)
    if text is not None:
        (tmp_path / "CURRENT").write_text(text, encoding="ascii")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DamagedDatabase, match="generations 3, 4"):
        schema.current_database(str(tmp_path))
    assert sorted(tmp_path.rglob("*")) == before
    # What the text says to do.
    (tmp_path / "CURRENT").write_text("4\n", encoding="ascii")
    assert schema.current_database(str(tmp_path)) == str(tmp_path / "4" / "main.db")
    assert (tmp_path / "CURRENT").read_bytes() == schema.encode_note("4")


def test_a_lost_current_never_starts_an_empty_database(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    lab.do("CREATE TABLE t(a)")
    lab.close()
    (tmp_path / "leader" / "CURRENT").unlink()
    lab.leader = lab.open("leader")
    assert lab.query(ask("SELECT count(*) FROM t", kind=QUERY)).index == 1
    lab.leader.close()


def test_a_note_is_believed_only_as_a_whole() -> None:
    data = schema.encode_note("some text")
    assert schema.decode_note(data) == "some text"
    for wrong in (b"", data[:-1], data + b"\n", data + b"x", data[1:], b"\xff" + data):
        with pytest.raises(ValueError, match=r"checksum|decode"):
            schema.decode_note(wrong)


def test_a_foreign_database_is_left_alone(tmp_path: Path) -> None:
    path = Path(schema.current_database(str(tmp_path / "other")))
    connection = apsw.Connection(str(path), vfs=load_checksum_vfs())
    connection.reserve_bytes(reserve=8)
    connection.execute("CREATE TABLE theirs(a)")
    connection.close()
    before = path.read_bytes()
    lab = Lab(tmp_path)
    with pytest.raises(ForeignDirectory, match="did not make"):
        lab.open("other")
    lab.close()
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_damage(tmp_path: Path) -> None:
    path = Path(schema.current_database(str(tmp_path / "other")))
    path.write_bytes(b"no database at all" * 300)
    lab = Lab(tmp_path)
    with pytest.raises(DamagedFile, match=r"main\.db"):
        lab.open("other")
    lab.close()


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    lab.leader._writer.engine(schema.SET_META, ("format", 99))
    lab.leader.close()
    with pytest.raises(ForeignDirectory, match="format 99"):
        lab.open("leader")
    lab.replica.close()


def test_a_configuration_of_a_later_form_is_for_the_release_that_wrote_it() -> None:
    assert schema.configuration_in({}, "x") == Configuration()
    later = Configuration(cluster_id="c").to_bytes().replace(b'"version":1', b'"version":9')
    with pytest.raises(ForeignDirectory, match=r"x: .*version 9.*use the release"):
        schema.configuration_in({"configuration": later}, "x")
