"""What a node uses is what the kernel says, and looking at its files opens none."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from bench.usage import (
    Sizes,
    Usage,
    device_written_bytes,
    process_cpu_seconds,
    sizes_of,
    usage_of,
    written_bytes,
)

ME = os.getpid()


def test_the_difference_of_two_moments_and_the_sum_of_two_nodes() -> None:
    assert Usage(3.0, 70) - Usage(1.0, 50) == Usage(2.0, 20)
    assert sum([Usage(1.0, 1), Usage(2.0, 2)], Usage(0.0, 0)) == Usage(3.0, 3)


def test_cpu_counts_up_while_a_process_computes() -> None:
    before = process_cpu_seconds(ME)
    end = time.process_time() + 0.05
    while time.process_time() < end:
        pass
    assert process_cpu_seconds(ME) > before


def test_the_cpu_of_a_process_that_is_gone_is_nothing() -> None:
    pid = os.spawnl(os.P_NOWAIT, sys.executable, sys.executable, "-S", "-c", "pass")
    os.waitpid(pid, 0)
    assert process_cpu_seconds(pid) == 0.0


def test_bytes_written_count_what_goes_to_files(tmp_path: Path) -> None:
    before = written_bytes(ME)
    (tmp_path / "file").write_bytes(b"x" * 1_000_000)
    if os.statvfs(tmp_path).f_blocks and written_bytes(ME) == before:
        pytest.skip("this file system is memory")
    assert usage_of(ME).written_bytes - before >= 1_000_000


def test_a_device_counts_what_it_gets(tmp_path: Path) -> None:
    before = device_written_bytes(tmp_path)
    if before is None:
        pytest.skip("this file system is on no device")
    with (tmp_path / "file").open("wb") as file:
        file.write(os.urandom(1_000_000))
        file.flush()
        os.fsync(file.fileno())
    after = device_written_bytes(tmp_path)
    assert after is not None
    assert after - before >= 1_000_000


def test_a_file_on_no_device_has_no_count() -> None:
    assert device_written_bytes(Path("/proc")) is None


def test_sizes_are_what_the_files_of_a_node_take(tmp_path: Path) -> None:
    empty = sizes_of(ME, tmp_path)
    assert empty == Sizes(empty.memory_bytes, 0, 0, 0)
    for name, pages in (
        ("log/0000000000000001.log", 3),
        ("log/hardstate", 1),
        ("db/2/main.db", 5),
        ("db/2/main.db-wal", 7),
        ("db/3/main.db", 11),
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.write(b"x" * pages * 4096)
            os.fsync(file.fileno())
    sizes = sizes_of(ME, tmp_path)
    assert sizes.memory_bytes > 1_000_000
    found = (sizes.log_bytes, sizes.wal_bytes, sizes.database_bytes)
    assert found == (3 * 4096, 7 * 4096, 16 * 4096)
