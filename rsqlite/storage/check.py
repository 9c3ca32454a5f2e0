"""`rsqlite check DIR` for what this floor keeps: identity, term and vote, and every log record."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from rsqlite.errors import DamagedFile, DiskFault, ForeignDirectory
from rsqlite.ports import Disk
from rsqlite.storage import hardstate
from rsqlite.storage.directory import IDENTITY_NEW_NAME, LOG_NAME, lock_directory
from rsqlite.storage.disk import RealDisk
from rsqlite.storage.finding import REJOIN_ADVICE, Finding, Severity
from rsqlite.storage.identity import IDENTITY_NAME, Identity, read_identity
from rsqlite.storage.recovery import examine_log
from rsqlite.storage.segment import (
    PAGE_BYTES,
    Rest,
    decode_header,
    examine_rest,
    scan_records,
    sequence_of,
)


def check(directory: str, disk: Disk | None = None) -> list[Finding]:
    """Everything that is not as it should be in a stopped node's directory; empty: all is well.

    Verifies every segment of the log, also behind damage, and changes nothing. Raises
    `ForeignDirectory` when it cannot be judged (no node's directory, in use, of a newer format) and
    `DiskFault` when it cannot be read.
    """
    directory = os.path.abspath(directory)
    disk = disk or RealDisk()
    with stopped_node(directory, disk):
        return _check(directory, disk)


@contextmanager
def stopped_node(directory: str, disk: Disk) -> Iterator[None]:
    """Keep the directory of a node from being started while it is read; errors as of `check`."""
    try:
        if not disk.exists(os.path.join(directory, IDENTITY_NAME)):
            raise ForeignDirectory(
                f"{directory} is no data directory of rsqlite: it holds no {IDENTITY_NAME}"
            )
        unlock = lock_directory(directory, disk)
        try:
            yield
        finally:
            unlock()
    except OSError as error:
        raise DiskFault(f"cannot read {directory}: {error}") from error


def begins_with_first_entry(directory: str, disk: Disk | None = None) -> bool:
    """Whether the log, in which no damage was found, was never cut: the database can then be made
    anew from it."""
    log_path = os.path.join(os.path.abspath(directory), LOG_NAME)
    return examine_log(log_path, disk or RealDisk()).terms.first_index == 1


def _check(directory: str, disk: Disk) -> list[Finding]:
    findings: list[Finding] = []
    names = disk.listdir(directory)
    if IDENTITY_NEW_NAME in names:
        path = os.path.join(directory, IDENTITY_NEW_NAME)
        what = "left over from a change of the identity that a crash ended; it never counted"
        findings.append(Finding(Severity.INFO, path, None, what))
    identity = None
    try:
        identity = read_identity(directory, disk)
    except DamagedFile as error:
        path = os.path.join(directory, IDENTITY_NAME)
        what = f"the identity is unreadable: {error.__cause__}"
        findings.append(Finding(Severity.DAMAGE, path, None, what, REJOIN_ADVICE))
    log_path = os.path.join(directory, LOG_NAME)
    if LOG_NAME in names and disk.listdir(log_path):
        findings.extend(_check_log(log_path, disk, identity))
    elif identity is not None and identity.cluster_id is not None:
        what = "the log is missing, but the node belongs to a cluster"
        findings.append(Finding(Severity.DAMAGE, log_path, None, what, REJOIN_ADVICE))
    return findings


def _check_log(log_path: str, disk: Disk, identity: Identity | None) -> list[Finding]:
    image = examine_log(log_path, disk)
    findings = list(image.findings)
    path = os.path.join(log_path, hardstate.NAME)
    slot = image.hard.slot if image.hard is not None else None
    if identity is not None and slot is not None and slot.node_id != identity.node_id:
        what = f"the log belongs to node {slot.node_id}, the directory to {identity.node_id}"
        advice = "Directories of two nodes were mixed up: put each back in its place"
        findings.append(Finding(Severity.DAMAGE, path, None, what, advice))
    known = {finding.path for finding in findings}
    for name in disk.listdir(log_path):
        sequence = sequence_of(name)
        path = os.path.join(log_path, name)
        if sequence is None or sequence in image.verified or path in known:
            continue
        finding = _check_alone(path, disk)
        if finding is not None:
            findings.append(finding)
    return findings


def _check_alone(path: str, disk: Disk) -> Finding | None:
    """Verify the records of a segment without those before it, which are damaged."""
    file = disk.open(path, writable=False)
    try:
        page = file.pread(PAGE_BYTES, 0)
        if not any(page):
            return None
        header = decode_header(page)
        if isinstance(header, str):
            return Finding(Severity.DAMAGE, path, 0, header, REJOIN_ADVICE)
        end = scan_records(file, header, lambda _: None)
        rest = examine_rest(file, header, end.offset)
    finally:
        file.close()
    if rest.rest is Rest.ZEROS:
        return None
    severity = Severity.DAMAGE if rest.rest is Rest.DAMAGED else Severity.WARNING
    what = "what follows is no sound record; whether it ever was cannot be told from this file"
    if rest.rest is Rest.DAMAGED:
        what = f"a record is unreadable, and a later one at byte {rest.proof} is whole"
    return Finding(severity, path, end.offset, what)
