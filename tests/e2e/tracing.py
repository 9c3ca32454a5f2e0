"""A node under strace, which slows the calls that change names and make things durable, so that it
can be killed right after any of them.

Each such call (mkdir, rename, fsync, unlink …) is made, told, and then held for a while: whoever
reads of it here has the time to end the process before it does anything more in that thread.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import shutil
import time
from collections.abc import Callable, Iterator

from rsqlite.testing.process import ClusterError, NodeState, ProcessNode

CHANGES = "mkdir,mkdirat,rename,renameat,renameat2,fsync,fdatasync,unlink,unlinkat,rmdir,ftruncate"
HELD_US = 100_000
SILENCE_S = 0.1
"""Pause between two looks whether the process is still of interest, while it makes no calls."""

LINE = re.compile(rb"^(\d+) +(\w+)\((.*)\) += (.*)$")


def is_available() -> bool:
    return shutil.which("strace") is not None


@contextlib.contextmanager
def traced(node: ProcessNode) -> Iterator[Calls]:
    """Start the node; what it does to its data directory is read from the answer. It runs on after
    the block, unwatched: the block should end it, or let it go on to its next start."""
    fifo = node.directory.parent / f"node-{node.index}.calls"
    fifo.unlink(missing_ok=True)
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    before, node.python = (
        node.python,
        [
            *(
                "strace",
                "-D",
                "-f",
                "--seccomp-bpf",
                "-y",
                "-qqq",
                "-s",
                "300",
                "-e",
                "signal=none",
            ),
            *("-e", f"trace={CHANGES}", "-e", f"inject={CHANGES}:delay_exit={HELD_US}"),
            *("-o", str(fifo), *node.python),
        ],
    )
    try:
        node.start()
        yield Calls(reader, node)
    finally:
        node.python = before
        if node.state is NodeState.RUNNING:
            node.kill()  # it would stand still at its next call, with nobody to read of it
        os.close(reader)
        fifo.unlink()


class Calls:
    """The calls of one life of a node."""

    def __init__(self, reader: int, node: ProcessNode) -> None:
        self._reader = reader
        self._node = node
        self._rest = b""

    def until(self, goes_on: Callable[[], bool], timeout_s: float) -> Iterator[str]:
        """Each call on the data directory as soon as it was made, while `goes_on`."""
        own = os.fsencode(self._node.directory)
        deadline = time.monotonic() + timeout_s
        while goes_on():
            if time.monotonic() > deadline:
                raise ClusterError(f"{self._node!r} is not done\n{self._node.log_tail()}")
            self._node.check_alive()
            if not select.select([self._reader], [], [], SILENCE_S)[0]:
                continue
            data = self._rest + os.read(self._reader, 1 << 16)
            *lines, self._rest = data.split(b"\n")
            for line in lines:
                match = LINE.match(line)
                if match and own in line:
                    where = match[3].replace(own + b"/", b"").replace(own, b".")
                    yield f"{match[2].decode()}({os.fsdecode(where)})"
