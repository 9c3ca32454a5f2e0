"""The data directory: one owner, one identity, nobody else's files."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from rsqlite.errors import DiskFault, ForeignDirectory
from rsqlite.storage.directory import (
    DataDirectory,
    Saved,
    read_configuration,
)
from rsqlite.storage.disk import RealDisk
from rsqlite.storage.identity import Identity, encode_identity
from rsqlite.testing.disk import RamDisk

PATH = "/srv/data"
IDENTITY = f"{PATH}/identity.json"


def bits_of(*numbers: int) -> Iterator[int]:
    return iter(numbers)


def test_a_new_directory_gets_a_random_identity_and_its_parts() -> None:
    disk = RamDisk()
    drawn = bits_of(0, 12345678901234567890)
    data = DataDirectory.open(PATH, disk=disk, label="one", random_bits=lambda _: next(drawn))
    assert data.identity == Identity(12345678901234567890, 1, None, "one")
    assert disk.exists(data.log_path)
    assert disk.exists(data.database_root)
    assert json.loads(disk.files()[IDENTITY])["node_id"] == "12345678901234567890"


def test_two_directories_have_different_node_ids() -> None:
    disk = RamDisk()
    ids = {DataDirectory.open(f"/{n}", disk=disk).identity.node_id for n in range(20)}
    assert len(ids) == 20
    assert max(ids).bit_length() > 48


def test_each_start_is_a_new_incarnation_of_the_same_node() -> None:
    disk = RamDisk()
    first = DataDirectory.open(PATH, disk=disk, label="one").identity
    disk.power_loss()
    second = DataDirectory.open(PATH, disk=disk).identity
    assert second == Identity(first.node_id, 2, None, "one")
    disk.power_loss()
    third = DataDirectory.open(PATH, disk=disk, label="one").identity
    assert third == Identity(first.node_id, 3, None, "one")
    disk.power_loss()
    # Two directories that changed places would each go on under the other's name.
    with pytest.raises(ForeignDirectory, match="belongs to node 'one', and this is to be 'two'"):
        DataDirectory.open(PATH, disk=disk, label="two")


def test_the_cluster_is_set_once_and_durably() -> None:
    disk = RamDisk()
    data = DataDirectory.open(PATH, disk=disk)
    data.set_cluster("c1")
    disk.power_loss()
    data = DataDirectory.open(PATH, disk=disk)
    assert data.identity.cluster_id == "c1"
    data.set_cluster("c1")
    with pytest.raises(ForeignDirectory, match="belongs to cluster c1, not to c2"):
        data.set_cluster("c2")


def test_a_directory_in_use_is_refused_with_the_process_that_uses_it(tmp_path: Path) -> None:
    disk = RealDisk()
    data = DataDirectory.open(f"{tmp_path}/d", disk=disk)
    with pytest.raises(ForeignDirectory, match=rf"in use by process {os.getpid()}: stop"):
        DataDirectory.open(f"{tmp_path}/d", disk=disk)
    data.close()
    data.close()
    again = DataDirectory.open(f"{tmp_path}/d", disk=disk)
    assert again.identity.incarnation == 2
    again.close()
    assert os.stat(f"{tmp_path}/d").st_mode & 0o777 == 0o700


@pytest.mark.parametrize("name", ["log", "db", "identity.json", "lock"])
def test_symbolic_links_in_the_directory_are_refused(tmp_path: Path, name: str) -> None:
    disk = RealDisk()
    DataDirectory.open(f"{tmp_path}/d", disk=disk).close()
    (tmp_path / "d" / name).rename(tmp_path / "elsewhere")
    (tmp_path / "d" / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DiskFault, match="cannot use the data directory"):
        DataDirectory.open(f"{tmp_path}/d", disk=disk)


def test_a_link_to_the_whole_directory_is_the_operators_choice(tmp_path: Path) -> None:
    disk = RealDisk()
    first = DataDirectory.open(f"{tmp_path}/d", disk=disk)
    first.close()
    (tmp_path / "link").symlink_to(tmp_path / "d")
    second = DataDirectory.open(f"{tmp_path}/link", disk=disk)
    assert second.identity.node_id == first.identity.node_id
    second.close()


def test_foreign_files_are_refused_and_left_alone() -> None:
    files = {f"{PATH}/holiday.jpg": b"x", f"{PATH}/notes/a": b"y"}
    disk = RamDisk.from_files(files)
    with pytest.raises(ForeignDirectory, match=r"holiday\.jpg, notes\): give an empty directory"):
        DataDirectory.open(PATH, disk=disk)
    assert disk.files() == files


@pytest.mark.parametrize("name", ["log/hardstate", "db/CURRENT"])
def test_data_without_an_identity_never_gets_a_new_one(name: str) -> None:
    """A node with an old log and a new id, or the other way round, would vote twice."""
    files = {f"{PATH}/{name}": b"x"}
    disk = RamDisk.from_files(files)
    with pytest.raises(ForeignDirectory, match=r"but no identity\.json"):
        DataDirectory.open(PATH, disk=disk)
    assert disk.files() == files


def test_the_root_of_a_volume_is_as_good_as_empty() -> None:
    disk = RamDisk()
    disk.mkdir(f"{PATH}/lost+found")
    disk.mkdir(f"{PATH}/log/lost+found")
    assert DataDirectory.open(PATH, disk=disk).identity.incarnation == 1


def test_a_newer_format_is_refused_with_what_to_do() -> None:
    data = encode_identity(Identity(1, 1, None, "", format=2))
    disk = RamDisk.from_files({IDENTITY: data})
    with pytest.raises(ForeignDirectory, match=r"format 2.*start the version of rsqlite"):
        DataDirectory.open(PATH, disk=disk)
    assert disk.files()[IDENTITY] == data


def test_a_power_loss_at_any_call_leaves_the_old_identity_or_the_new() -> None:
    """Swept over every call of the first start, of the second, and of binding to a cluster."""
    for n in range(1, 60):
        for seed in range(4):
            disk = RamDisk()
            known: set[int] = set()
            disk.fail_nth_call(n, 5, once=False)
            try:
                for _ in range(2):
                    data = DataDirectory.open(PATH, disk=disk)
                    known.add(data.identity.node_id)
                    data.set_cluster("c1")
                    data.close()
            except DiskFault:
                pass
            disk.stop_failing()
            disk.power_loss(random.Random(seed) if seed else None)
            recovered = DataDirectory.open(PATH, disk=disk).identity
            if known:
                assert recovered.node_id in known
                assert recovered.incarnation >= 2
            assert recovered.cluster_id in (None, "c1")
    assert disk.failed_call is None


def test_the_last_configuration_is_kept_and_believed_only_whole() -> None:
    disk = RamDisk()
    data = DataDirectory.open(PATH, disk=disk)
    assert data.saved_configuration() is None
    for content in (b'{"members": 1}', b'{"members": 2}'):
        data.save_configuration(content, 7)
        assert data.saved_configuration() == content
    disk.power_loss()
    assert read_configuration(PATH, disk) == Saved(b'{"members": 2}', 7)
    path = f"{PATH}/configuration.json"
    for bit in range(0, 8 * len(disk.files()[path]), 7):
        disk.flip_bit(path, bit)
        assert read_configuration(PATH, disk) in (None, Saved(b'{"members": 2}', 7))
        disk.flip_bit(path, bit)
    disk.open(path).pwrite(b"[" * 100_000, 0)
    assert read_configuration(PATH, disk) is None


def test_a_log_on_a_volume_that_is_not_mounted_is_not_taken_for_lost() -> None:
    disk = RamDisk()
    disk.volumes = {f"{PATH}/log"}
    DataDirectory.open(PATH, disk=disk).close()
    disk.volumes = set()
    before = disk.files()
    with pytest.raises(ForeignDirectory, match=f"mount it at {PATH}/log"):
        DataDirectory.open(PATH, disk=disk)
    assert disk.files().keys() == before.keys()
    # Its files were copied back, and the volume is needed no more.
    disk.open(f"{PATH}/log/hardstate", create=True).close()
    assert not DataDirectory.open(PATH, disk=disk).identity.log_volume


def test_the_database_cannot_be_on_a_volume_of_its_own() -> None:
    disk = RamDisk()
    disk.volumes = {f"{PATH}/db"}
    with pytest.raises(ForeignDirectory, match=f"only {PATH}/log may be another one"):
        DataDirectory.open(PATH, disk=disk)
