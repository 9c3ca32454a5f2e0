"""The data directory and the log in it: what is where, byte by byte, and what each crash leaves.

    lock                        held while a node runs; its process id            directory.py
    identity.json               node id, incarnation, cluster, label              directory.py
    log/hardstate               term and vote in two slots, the durable mark      hardstate.py
    log/0000000000000001.log    a segment; then 2, 3, … without a gap             segment.py
    db/                         the database                                      (statemachine)

All numbers are little-endian, all checksums CRC-32. The layout of each file stands at the top of
its module: page by page in `hardstate.py`, the segment's header in `segment.py`, a record's 40
bytes in `record.py`.

The log is only ever appended to: entries, and truncation records ("the entries from index 7 on are
void"). So nothing that was synced is written over, a suffix is taken back by one atomic record
(raft.md rule 22), and the place up to which the log was synced only grows. Segments are files of
16 MiB (a record that is larger gets a segment of its own), zero-filled a little ahead of the tail:
a write into zeros that were synced changes no metadata, so its sync waits for no journal.

What holds the log together:

1. Each record names the chain value of the one before, each segment that of the segment before.
2. Each record's header is checked together with its segment's checksum and its own offset, so old,
   copied or recycled bytes are never a record, and a record proves itself also after a hole.
3. Each record says where the write began that brought it: a sound record of a later write proves
   that everything before it had been synced.
4. After each sync of the log the durable mark is written beside the hard state, not synced: never
   ahead of the log, at most a little behind it.
5. The hard state is synced before the entries of its term are written (raft.md rule 3), and a start
   refuses entries of a term above the stored one: then the hard state is an old copy.

What a crash leaves, and what a start makes of it:

| crash                             | left on disk                    | at the next start          |
| --------------------------------- | ------------------------------- | -------------------------- |
| while `identity.json` is replaced | the old one, perhaps a `.new`   | the old one is used        |
| first start, anywhere             | empty or half-made files        | begun again                |
| while term or vote is written     | the old slot, perhaps the new   | the newest valid slot      |
| while records are written         | any part of that write          | cut at first bad record    |
| while a truncation is written     | the record or not               | truncated or not           |
| at the change of segments         | a file with zeros for a header  | emptied, made anew         |
| while space is prepared           | zeros, or less of them          | nothing to do              |
| after a sync that failed          | less than reads show            | written again, then synced |

The last bad bytes are a torn tail, which is overwritten with zeros and reported, only if all of
this holds: they are in the last segment, beyond the durable mark, and no record of a later write
stands after them. Anything else that fails its check is damage: `DamagedFile`, nothing is changed,
for what was cut here could be the last copy of an acknowledged write (design 11, reliability 1.3).
One exception: where the database holds all that is in the damaged segments, and everything behind
them is sound, the log begins behind them (`recovery.py`).

A disk that fails ends the log for good: no write or sync is tried twice. The volume being full is
noticed ahead (`LogStore.has_room`), while the log still has prepared space and nothing has failed.

The front of the log is cut by whole segments: a segment's header says its first index and the term
before, the hard state says which segment is the first. What is on the disk can be read again while
the log is in use (`scrub.py`); a part that is damaged is cut like any other, once it is not needed.
"""

from rsqlite.storage.check import check
from rsqlite.storage.directory import DataDirectory
from rsqlite.storage.disk import RealDisk
from rsqlite.storage.finding import Finding, Severity
from rsqlite.storage.identity import Identity
from rsqlite.storage.logstore import LogStore

__all__ = [
    "DataDirectory",
    "Finding",
    "Identity",
    "LogStore",
    "RealDisk",
    "Severity",
    "check",
]
