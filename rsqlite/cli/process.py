"""What is set for the process as a whole, where a node is all that it runs: event loop, limit of
open files, allocator, garbage collector."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import logging
import resource
from collections.abc import Callable
from dataclasses import replace

from rsqlite.config import KIB, Settings

log = logging.getLogger("rsqlite.serve")

OTHER_FILES = 256
"""Files that are open beside connections: log segments, SQLite's, the loop's own."""
CONNECTIONS_MIN = 8
"""Of clients, and of nodes, however few files may be open."""
MMAP_THRESHOLD_BYTES = 128 * KIB
"""Larger buffers have pages of their own. glibc begins so as well."""
ARENAS_MAX = 2
_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8
"""Numbers in <malloc.h>."""
YOUNG_OBJECTS = 50_000
"""Allocations between two young collections: fewer pauses in the tail of answer times, no
difference else. The collector stays on: exceptions and tasks make cycles."""


def allow_connections(settings: Settings) -> Settings:
    """Raise this process's limit of open files to what the connections need, as far as it may:
    the usual soft limit of 1024 is far below the hard one, for programs that use select(). Where
    that is not enough, the settings are given back with fewer connections: they must not take what
    the files of the database need, for to be without these ends the node."""
    needed = settings.connections_max + settings.peer_connections_max + OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    possible = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    if soft != resource.RLIM_INFINITY and soft < possible:
        resource.setrlimit(resource.RLIMIT_NOFILE, (possible, hard))
    if possible >= needed:
        return settings
    room = max(possible - OTHER_FILES, 0)
    peers = min(settings.peer_connections_max, max(room // 2, CONNECTIONS_MIN))
    clients = min(settings.connections_max, max(room - peers, CONNECTIONS_MIN))
    log.warning(
        "the limit of open files is too low for -connections-max: fewer are taken",
        extra={"limit": possible, "needed": needed, "connections": clients, "peers": peers},
    )
    return replace(settings, connections_max=clients, peer_connections_max=peers)


def loop_factory(settings: Settings) -> Callable[[], asyncio.AbstractEventLoop]:
    """uvloop's loop when it is installed and wanted, else asyncio's."""
    if settings.uvloop == "auto":
        try:
            import uvloop
        except ImportError:
            pass
        else:
            return uvloop.new_event_loop
    return asyncio.new_event_loop


def calm_allocator() -> None:
    """Give large buffers back to the system as soon as they are free. glibc would learn from the
    first of them to keep all later ones in its heap, where small ones nail them down; and it has a
    heap for each thread. 10 MB less under bulk load, and no difference else."""
    with contextlib.suppress(OSError, AttributeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES)
        mallopt(_M_ARENA_MAX, ARENAS_MAX)


def calm_collector() -> None:
    """What lives now lives on: keep the garbage collector away from it. What lived in an earlier
    life of the node in this process does not: without a thaw it would never be collected."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 20, 100)
