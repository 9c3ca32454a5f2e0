"""HTTP on top of a node: rqlite's API, byte for byte where its clients look.

A request's head becomes a `Plan` (`rqlite_api.py`, from the flags of `flags.py`); the plan reads
the body (`body.py`, `typed.py`) into a `Request`, `NodeService.submit` answers it, and the plan
words the answer (`results.py`, `answers.py`) as a `Reply`. None of this does I/O. Two ways lead
there: the plain path through aiohttp (`app.py`, which also has the routes, start and stop) and the
short cut (`shortcut.py`) for heads seen before. `connection.py` keeps the deadlines of both,
`limits.py` the bytes. Quirks of rqlite end here; the node below knows nothing of them.
"""
