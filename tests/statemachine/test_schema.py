"""CURRENT, the generations, and files that are not ours."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from rsqlite.errors import DamagedFile, ForeignDirectory
from rsqlite.raft.types import Configuration
from rsqlite.statemachine import schema
from rsqlite.statemachine.vfs import load_checksum_vfs
from tests.statemachine.lab import Lab


def test_a_new_root_gets_its_first_generation(tmp_path: Path) -> None:
    root = tmp_path / "db"
    assert schema.current_database(str(root)) == str(root / "1" / "main.db")
    assert (root / "CURRENT").read_text(encoding="ascii") == "1\n"
    assert not (root / "CURRENT.new").exists()


def test_current_names_the_database_in_use(tmp_path: Path) -> None:
    schema.current_database(str(tmp_path))
    schema.set_current(str(tmp_path), 12)
    assert schema.current_database(str(tmp_path)) == str(tmp_path / "12" / "main.db")


@pytest.mark.parametrize("text", ["", "1", "one\n", "1\n2\n", "../1\n", "-1\n"])
def test_a_damaged_current_is_said_so(tmp_path: Path, text: str) -> None:
    (tmp_path / "CURRENT").write_text(text, encoding="ascii")
    with pytest.raises(DamagedFile, match="does not name"):
        schema.current_database(str(tmp_path))


def test_a_lost_current_never_starts_an_empty_database(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    lab.close()
    (tmp_path / "leader" / "CURRENT").unlink()
    with pytest.raises(DamagedFile, match="removed by hand"):
        lab.open("leader")


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
