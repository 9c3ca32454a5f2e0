"""What a node gives up is set aside whole, whatever comes between, and the newest of it is kept."""

from __future__ import annotations

import errno
import random

import pytest

from rsqlite.config import QUARANTINED_MAX
from rsqlite.errors import DiskFault
from rsqlite.storage.directory import DataDirectory, give_up_identity
from rsqlite.storage.identity import read_identity
from rsqlite.testing.disk import RamDisk

PATH = "/srv/data"


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("volumes", [set(), {f"{PATH}/log"}])
def test_the_power_may_go_while_an_identity_is_given_up(seed: int, volumes: set[str]) -> None:
    """Never is there an identity without the log that has its votes."""
    calls = 0
    while True:
        disk = RamDisk()
        disk.volumes = volumes
        data = DataDirectory.open(PATH, disk=disk)
        former = data.identity.node_id
        file = disk.open(f"{PATH}/log/votes", create=True)
        file.pwrite(b"voted", 0)
        file.sync()
        file.close()
        for directory in (f"{PATH}/log", PATH):
            disk.sync_directory(directory)
        data.save_configuration(b"others", 3)
        data.close()
        disk.fail_nth_call(calls, errno.EIO, once=False)
        try:
            give_up_identity(PATH, disk, "damaged")
            is_over = True
        except DiskFault:
            is_over = False
        disk.stop_failing()
        disk.power_loss(random.Random(100 * seed + calls))
        again = DataDirectory.open(PATH, disk=disk)
        has_log = disk.exists(f"{PATH}/log/votes")
        assert has_log == (again.identity.node_id == former)
        assert again.saved_configuration() == b"others"
        if is_over:
            assert not has_log
            break
        calls += 1
    assert calls > 10


def test_the_newest_of_what_was_given_up_is_kept() -> None:
    disk = RamDisk()
    former = []
    for number in range(5):
        data = DataDirectory.open(PATH, disk=disk)
        former.append(data.identity.node_id)
        data.close()
        place = give_up_identity(PATH, disk, f"reason {number}")
        assert disk.files()[f"{place}/reason"] == f"reason {number}".encode()
    kept = disk.listdir(f"{PATH}/quarantine")
    assert kept == [str(number) for number in range(6 - QUARANTINED_MAX, 6)]
    identities = [read_identity(f"{PATH}/quarantine/{one}", disk).node_id for one in kept]
    assert identities == former[-QUARANTINED_MAX:]


@pytest.mark.parametrize("content", [b"", b"{}", b'{"place": "x"}', b'{"place": "2"', b"\xff"])
def test_an_identity_is_given_up_also_when_the_word_for_it_is_damaged(content: bytes) -> None:
    disk = RamDisk()
    data = DataDirectory.open(PATH, disk=disk)
    former = data.identity.node_id
    data.close()
    for number in (1, 2):
        disk.mkdir(f"{PATH}/quarantine/{number}")
    file = disk.open(f"{PATH}/giving-up.json", create=True)
    file.pwrite(content, 0)
    again = DataDirectory.open(PATH, disk=disk)
    assert again.identity.node_id != former
    assert read_identity(f"{PATH}/quarantine/2", disk).node_id == former
    assert not disk.exists(f"{PATH}/giving-up.json")


def test_a_log_on_a_volume_of_its_own_is_set_aside_in_it() -> None:
    disk = RamDisk()
    disk.volumes = {f"{PATH}/log"}
    disk.mkdir(f"{PATH}/log/lost+found")
    for number in range(1, 5):
        data = DataDirectory.open(PATH, disk=disk)
        file = disk.open(f"{PATH}/log/votes", create=True)
        file.pwrite(b"%d" % number, 0)
        file.close()
        data.close()
        give_up_identity(PATH, disk, "damaged")
        assert disk.listdir(f"{PATH}/log") == ["lost+found", "quarantine"]
        assert disk.files()[f"{PATH}/log/quarantine/{number}/votes"] == b"%d" % number
    assert disk.listdir(f"{PATH}/log/quarantine") == [str(n) for n in range(5 - QUARANTINED_MAX, 5)]
