"""THE CORE: consensus as a deterministic state machine without I/O.

What this part is for
    A group of nodes agrees on one sequence of entries (the Raft paper; Ongaro's thesis for what the
    paper leaves out). Here is only the agreement: no sockets, files, clock or threads, and nothing
    random but the `random.Random` that is passed in. The same calls give the same outputs, so a
    failing run replays exactly.

How it is driven
    Things that happen go in: `tick`, `step(message)`, `propose`, `read_index`, `appended(token)`,
    `applied(index)`. After any of them `poll()` is called, and again while there is something more
    (`has_more_committed`, or one of them was called meanwhile), and each `Output` is carried out.
    After `applied` only `has_more_committed` asks for it. The driver's duties, which the core
    relies on:

    1.  One owner. All calls come from one thread, and none comes from within another.
    2.  Works are appended in the order they were handed out, each as a whole: truncate, then
        entries and hard state, then sync. Several may share one sync. A later work's completion
        stands for those before it.
    3.  `AppendWork.replies` leave after its sync, never before; `send` may leave at once. Messages
        may be lost, repeated, reordered, late. (Appends to one follower should keep their order:
        one that overtakes costs a round trip.)
    4.  `appended(token)` is called after the sync that covers it. A sync that fails ends the
        process; it is not tried again.
    5.  `LogReader` answers for what was given to the log, durable or not, from the moment that
        `poll()`'s output is carried out.
    6.  `committed` entries are applied in order, each once; `applied(index)` follows when their
        effects would survive as one with the index. An entry handed over is final.
    7.  A `SoftState` is acted on before anything else of later outputs: speculation of an older
        term ends there.
    8.  A read may run when `applied >= index`; the index None means that nobody can confirm it now.
    9.  Ticks come at an even pace. A host that slept feeds the ticks it missed before the messages
        that waited (raft.md rule 45).
    10. `disk_stalled(True)` when a sync is outstanding longer than the election timeout, and
        `disk_stalled(False)` when it returned (rule 46). `lead_reluctantly()` when the database can
        serve nobody: others lead first, and this node only to give them what its log holds.
    11. After an `InvariantViolation` the process ends. The core says so instead of doing harm.

How it works
    Roles follow Figure 4 of the paper, with the pre-candidate before the candidate (thesis 9.6). A
    leader sends entries while its own disk writes them (10.2.1); its own copy counts when durable.
    Always on: pre-vote, check-quorum, refusal of votes while a leader is heard, a no-op on
    election. A configuration is in force from the moment its entry is appended and falls back with
    the log (4.1); every change of voters is joint (4.3). Reads are confirmed by rounds (6.4).
    While an upgrade is declared (`types.Upgrade`), nodes of two fingerprints take part; those of
    neither only append, and the older ones lead as long as they can.
    A follower that needs entries cut away here is in the state `snapshot` of `progress.py`: it gets
    heartbeats, and offers of an image (`offer_image`, `Output.image`). How the image travels is not
    the core's; once it is installed, a core is made anew from the log and the database.

How to read it
    `types` and `messages` are the words, `output` the way out, `core.Raft` the door. `state` names
    every field with its invariant; `replication` and `election` are the two halves of the paper;
    `quorum`, `membership`, `log`, `progress`, `reads` the parts they stand on; `invariants` what
    must hold, by number; `describe` the text that the scripts in `tests/raft/scripts` compare.
"""

from rsqlite.raft.core import CoreSettings, Raft
from rsqlite.raft.log import LogReader
from rsqlite.raft.output import AppendWork, Output, ReadState

__all__ = ["AppendWork", "CoreSettings", "LogReader", "Output", "Raft", "ReadState"]
