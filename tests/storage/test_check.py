"""`check`: every file of a stopped node judged, and nothing changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from rsqlite.errors import DiskFault, ForeignDirectory
from rsqlite.storage.check import check
from rsqlite.storage.directory import DataDirectory
from rsqlite.storage.disk import RealDisk
from rsqlite.storage.finding import Severity
from rsqlite.storage.logstore import LogStore
from rsqlite.storage.segment import PAGE_BYTES
from rsqlite.testing.disk import RamDisk
from tests.storage.rig import Rig, entries

SEGMENT = "/data/log/0000000000000001.log"


def stopped_node() -> RamDisk:
    """A node's directory after a clean stop. Its log is of the rig's node id."""
    disk = RamDisk()
    data = DataDirectory.open("/data", disk=disk, random_bits=lambda _: 7)
    data.set_cluster("c1")
    rig = Rig(disk)
    rig.open()
    rig.append(entries(1, 40), term=1)
    rig.log.close()
    data.close()
    return disk


def test_a_stopped_node_is_clean() -> None:
    disk = stopped_node()
    before = disk.files()
    assert check("/data", disk) == []
    assert disk.files() == before


def test_the_default_is_the_real_disk(tmp_path: Path) -> None:
    DataDirectory.open(f"{tmp_path}/d", disk=RealDisk()).close()
    assert check(f"{tmp_path}/d") == []


def test_a_running_node_is_not_judged() -> None:
    disk = RamDisk()
    DataDirectory.open("/data", disk=disk)
    with pytest.raises(ForeignDirectory, match="in use by process 1"):
        check("/data", disk)


def test_what_is_no_data_directory_is_refused_and_left_alone() -> None:
    disk = RamDisk.from_files({"/data/a": b""})
    for path in ("/data", "/nothing"):
        with pytest.raises(ForeignDirectory, match="no data directory"):
            check(path, disk)
    assert disk.files() == {"/data/a": b""}


def test_a_torn_tail_is_information() -> None:
    disk = stopped_node()
    last = sorted(name for name in disk.files() if name.endswith(".log"))[-1]
    while not any(disk.files()[last][:PAGE_BYTES]):
        disk.unlink(last)
        last = sorted(name for name in disk.files() if name.endswith(".log"))[-1]
    data = disk.files()[last]
    disk.open(last).pwrite(b"torn", len(data.rstrip(b"\0")) + 16 & ~7)
    (finding,) = check("/data", disk)
    assert (finding.severity, finding.path) == (Severity.INFO, last)
    assert "torn write" in finding.what
    assert finding.advice == "The node cuts it when it starts"


def test_damage_says_file_place_and_what_to_do() -> None:
    disk = stopped_node()
    disk.flip_bit(SEGMENT, (PAGE_BYTES + 50) * 8)
    before = disk.files()
    (finding,) = check("/data", disk)
    assert (finding.severity, finding.path, finding.offset) == (
        Severity.DAMAGE,
        SEGMENT,
        PAGE_BYTES,
    )
    assert "join again" in str(finding)
    assert disk.files() == before


def test_each_file_is_judged_although_another_is_bad() -> None:
    disk = stopped_node()
    disk.flip_bit("/data/identity.json", 200)
    disk.flip_bit("/data/log/hardstate", 30 * 8)
    disk.flip_bit(SEGMENT, (PAGE_BYTES + 50) * 8)
    found = {(finding.severity, finding.path) for finding in check("/data", disk)}
    assert found == {
        (Severity.DAMAGE, "/data/identity.json"),
        (Severity.WARNING, "/data/log/hardstate"),
        (Severity.DAMAGE, SEGMENT),
    }


def test_segments_behind_a_damaged_one_are_verified_too() -> None:
    disk = stopped_node()
    third = "/data/log/0000000000000003.log"
    second = "/data/log/0000000000000002.log"
    disk.flip_bit(SEGMENT, (PAGE_BYTES + 50) * 8)
    disk.flip_bit(second, 10)
    disk.flip_bit(third, (PAGE_BYTES + 50) * 8)
    found = [(finding.path, finding.offset) for finding in check("/data", disk)]
    assert found == [(second, 0), (SEGMENT, PAGE_BYTES), (third, PAGE_BYTES)]


def test_the_log_is_verified_although_term_and_vote_are_lost() -> None:
    disk = stopped_node()
    assert [finding.what for finding in check("/data", disk)] == []
    disk.unlink("/data/log/hardstate")
    disk.flip_bit(SEGMENT, (PAGE_BYTES + 50) * 8)
    found = [finding.path for finding in check("/data", disk)]
    assert found == ["/data/log/hardstate", SEGMENT]


def test_a_log_of_another_node_is_found() -> None:
    disk = RamDisk()
    DataDirectory.open("/data", disk=disk, random_bits=lambda _: 8).close()
    rig = Rig(disk)
    rig.open()
    rig.log.close()
    (finding,) = check("/data", disk)
    assert finding.what == "the log belongs to node 7, the directory to 8"


def test_a_missing_log_is_found_once_the_node_is_of_a_cluster() -> None:
    disk = RamDisk()
    data = DataDirectory.open("/data", disk=disk)
    data.close()
    assert check("/data", disk) == []
    data = DataDirectory.open("/data", disk=disk)
    data.set_cluster("c1")
    data.close()
    (finding,) = check("/data", disk)
    assert finding.what == "the log is missing, but the node belongs to a cluster"


def test_leftovers_are_information() -> None:
    disk = stopped_node()
    disk.open("/data/identity.json.new", create=True)
    (finding,) = check("/data", disk)
    assert finding.severity is Severity.INFO


def test_a_read_error_is_a_fault() -> None:
    disk = stopped_node()
    for n in range(1, 30):
        disk.fail_nth_call(n, 5)
        try:
            findings = check("/data", disk)
        except DiskFault:
            disk.kill()
            continue
        assert disk.failed_call is None
        assert findings == []
        break
    assert n > 8


def test_a_log_opened_without_its_directory_is_checked_the_same() -> None:
    disk = stopped_node()
    rig = Rig(disk)
    log = LogStore.open("/data/log", disk=disk, loop=rig.loop, settings=rig.settings, node_id=7)
    assert log.last_index == 39
    log.close()
    assert check("/data", disk) == []
