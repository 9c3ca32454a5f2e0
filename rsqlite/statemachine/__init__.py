"""The state machine: SQLite, made to do the same on every node.

`StateMachine` is the door; the driver is its only caller.

How SQL is made deterministic
-----------------------------
The leader executes first, in an open transaction, and the entry carries the statements that took
effect with everything they must find again (`command.py`). Nothing is rewritten:

- *time*: write connections use a VFS whose clock is the time of the request (`vfs.py`);
- *chance*: `random()` and `randomblob()` draw from a stream whose seed the entry holds
  (`functions.py`); the update hook refuses the one rowid after which SQLite draws its own;
- *counters*: `changes()`, `last_insert_rowid()` and `total_changes()` begin at 0 in each request;
  where a statement may show them, the entry says what they were before it (`request_run.py`);
- *session settings* travel with the entry and hold for one request (`session.py`);
- *plans*: the same statistics at the same index, QPSG, one SQLite version (`fingerprint.py`);
- what cannot be replayed is refused (`authorizer.py`, `shapes.py`): ATTACH, VACUUM, TEMP objects,
  PRAGMAs off the allow-list, writes that read what differs between nodes, writes to planner
  statistics. The time zone of the process is UTC.

What strangers in one batch never notice is in `speculation.py`, `attempt.py`, `request_run.py`; how
a replica checks each entry in `apply.py` and `digest.py`.

On disk
-------
`<data>/db/CURRENT` names the generation `<data>/db/<n>/main.db` (`schema.py`), a SQLite database in
WAL mode with page checksums. It holds what has been applied in `_rsqlite_applied`, written in the
same transaction as its effects, so the database itself is the snapshot. It is synced by complete
checkpoints only (`checkpoint.py`): after a power loss it may be older than what was committed, not
torn, and the log replays the rest up to `checkpointed_index` at the least.

Results
-------
A statement with columns gives `Rows`, any other `Write`; in a request of kind EXECUTE a read gives
the numbers of the statement before it instead, as rqlite does. A deferred foreign key that COMMIT
would have reported takes the place of the last result of its unit. An extra or a missing parameter
is an error of its statement.

History of behaviour (`fingerprint.BEHAVIOUR`)
----------------------------------------------
1: the first.

What a new one is to be like: `command.py` says which of its fields are read in which way, what is
done differently asks `Writer.behaviour`, and the formats of the files (`schema.FORMAT`) stay as the
older release reads them until the upgrade has ended, so that one can go back.
"""

from rsqlite.statemachine.batch import Batch
from rsqlite.statemachine.check import check_database, needs_image
from rsqlite.statemachine.machine import StateMachine
from rsqlite.statemachine.statistics import Statistics

__all__ = ["Batch", "StateMachine", "Statistics", "check_database", "needs_image"]
