"""What nodes use: CPU, bytes written, memory, and the size of their files. Linux's /proc tells.

Bytes written are counted in two ways. What the device got (`device_written_bytes`) is true, with
the file system's journal in it, but it is of all nodes together and of whatever else writes there.
What the kernel counts for one process (`written_bytes`) is what it made dirty, in units of the page
cache: where files are kept in large folios, 200 bytes in one of 1 MiB count as 1 MiB (seen on ext4
with Linux 6.18, where the device got 4 KiB).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
BLOCK_BYTES = SECTOR_BYTES = 512
"""The unit of `st_blocks` and of /proc/diskstats, whatever those of the file system and device."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Of one process since it began, or the difference of two moments."""

    cpu_seconds: float
    written_bytes: int

    def __sub__(self, other: Usage) -> Usage:
        return Usage(self.cpu_seconds - other.cpu_seconds, self.written_bytes - other.written_bytes)

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.cpu_seconds + other.cpu_seconds, self.written_bytes + other.written_bytes)


@dataclass(frozen=True, slots=True)
class Sizes:
    """What one node holds at a moment."""

    memory_bytes: int
    log_bytes: int
    wal_bytes: int
    database_bytes: int


def process_cpu_seconds(pid: int) -> float:
    """User and system time of a process with all its threads; 0 once it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except FileNotFoundError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND


def written_bytes(pid: int) -> int:
    """Bytes that a process has caused to be written, those taken back before included."""
    for line in Path(f"/proc/{pid}/io").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "write_bytes":
            return int(value)
    raise LookupError("the kernel does not count bytes written")


def device_written_bytes(path: Path) -> int | None:
    """Bytes that the device under a file has got, from anybody; None if it has no such count."""
    device = path.stat().st_dev
    numbers = [str(os.major(device)), str(os.minor(device))]
    for line in Path("/proc/diskstats").read_text().splitlines():
        fields = line.split()
        if fields[:2] == numbers:
            return int(fields[9]) * SECTOR_BYTES
    return None


def usage_of(pid: int) -> Usage:
    return Usage(process_cpu_seconds(pid), written_bytes(pid))


def total(usages: Sequence[Usage]) -> Usage:
    return sum(usages, Usage(0.0, 0))


def memory_bytes(pid: int) -> int:
    """The resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES


def sizes_of(pid: int, directory: Path) -> Sizes:
    """Of the node with its data in `directory`. Files are asked for their size, never opened."""
    return Sizes(
        memory_bytes=memory_bytes(pid),
        log_bytes=_allocated_bytes(directory, "log/*.log"),
        wal_bytes=_allocated_bytes(directory, "db/*/main.db-wal"),
        database_bytes=_allocated_bytes(directory, "db/*/main.db"),
    )


def _allocated_bytes(directory: Path, pattern: str) -> int:
    """What the files take on the disk; one that goes away meanwhile takes nothing."""
    found = 0
    for path in directory.glob(pattern):
        try:
            found += path.stat().st_blocks * BLOCK_BYTES
        except FileNotFoundError:
            continue
    return found
