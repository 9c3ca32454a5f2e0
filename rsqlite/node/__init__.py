"""ONE SERVER PROCESS, without HTTP: the core, the log, the database and the peers put together.

- `driver` is the only caller of the core: it carries out each `Output` in the promised order.
- `writer` owns the write slot: it collects requests, speculates, proposes, answers.
- `applier` takes committed entries in order: COMMIT of our own speculation, or apply of theirs.
- `reader` brings each read to the freshness it asks for.
- `forwarding` carries requests to the leader, never one whose fate is unknown a second time.
- `cluster` forms a cluster out of nodes that have none.
- `node` wires the parts; nothing else knows them all.

Everything runs on the thread of the loop, in callbacks; no task stands between a socket and the
core. Threads do only what may be slow: the log's sync, checkpoints, long statements.
"""
