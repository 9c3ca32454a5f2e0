"""What is not deterministic comes in here: time, threads, disk and network, as protocols.

`node/`, `transport/`, `storage/` and `statemachine/` know nothing of the outside but these. The
real ones are `node/loop.py` (asyncio and threads), `storage/disk.py` and `transport/network.py`;
the fakes in `testing/` run the same contract tests. Randomness is `random.Random`, passed in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

T = TypeVar("T")

Done = Callable[[T | None, BaseException | None], None]
"""Called on the loop with (value, None) or (None, error)."""


class Handle(Protocol):
    """Something scheduled that may be called off."""

    def cancel(self) -> None: ...


class Worker(Protocol):
    """One thread of its own that runs work in the order it was given."""

    def submit(self, work: Callable[[], T], done: Done[T]) -> None:
        """Run `work` in the thread, then `done(value, error)` on the loop."""

    def close(self) -> None:
        """Finish what was submitted, then end the thread; returns when it has ended."""


class Loop(Protocol):
    """The single thread that owns the core, its clock, and the way to other threads."""

    def monotonic(self) -> float:
        """Seconds that never go back."""

    def wall(self) -> float:
        """Seconds since 1970, as the machine believes."""

    def call_soon(self, callback: Callable[..., object], *args: Any) -> Handle:
        """Run `callback(*args)` in the next turn of the loop."""

    def call_later(self, delay_s: float, callback: Callable[..., object], *args: Any) -> Handle:
        """Run `callback(*args)` on the loop after `delay_s` seconds."""

    def submit(self, work: Callable[[], T], done: Done[T]) -> None:
        """Run `work` on files in some thread of a small pool, then `done(value, error)` on the
        loop. It may wait for other such work, and not for reads."""

    def submit_read(self, work: Callable[[], T], done: Done[T]) -> None:
        """The same for a long read, in threads that have nothing else to do and may have a long
        queue."""

    def worker(self, name: str) -> Worker:
        """A dedicated thread."""


class DiskFile(Protocol):
    """An open file. Errors are `OSError`, as the operating system gives them."""

    def size(self) -> int: ...

    def pread(self, length: int, offset: int) -> bytes:
        """At most `length` bytes at `offset`; fewer only at the end of the file."""

    def pwrite(self, data: bytes, offset: int) -> None:
        """Write all of `data` at `offset`, or raise."""

    def sync(self) -> None:
        """Return when everything written is on the disk (fdatasync). Never called again after it
        raised: the kernel may have dropped the pages it could not write."""

    def sync_soon(self, ended: Callable[[BaseException | None], None]) -> bool:
        """Begin a `sync` of what is written so far; `ended(error)` comes on the loop, not before
        this returns. False: this disk cannot, and nothing has begun."""

    def wait(self) -> None:
        """Return when no `sync_soon` of this file is under way any more; their ends are told first.
        `close` does so too."""

    def allocate(self, length: int) -> None:
        """Make the file so long, and give it all of that on the volume now; or raise, and leave it
        as it was."""

    def truncate(self, length: int) -> None: ...

    def close(self) -> None: ...


class Disk(Protocol):
    """A file system, as far as the log needs one. Paths are absolute strings."""

    @property
    def syncs_in_background(self) -> bool:
        """Whether `DiskFile.sync_soon` may do something."""

    def open(self, path: str, *, create: bool = False, writable: bool = True) -> DiskFile: ...

    def exists(self, path: str) -> bool: ...

    def listdir(self, path: str) -> list[str]:
        """The names in a directory, sorted."""

    def mkdir(self, path: str) -> None:
        """Make the directory if it is not there, parents included."""

    def rename(self, source: str, target: str) -> None:
        """Replace `target` by `source` atomically."""

    def unlink(self, path: str) -> None: ...

    def remove_tree(self, path: str) -> None:
        """Remove a directory and all that is in it."""

    def sync_directory(self, path: str) -> None:
        """Return when the names in the directory are on the disk."""

    def free_bytes(self, path: str) -> int:
        """Bytes that an ordinary user may still write on the volume of `path`."""

    def volume(self, path: str) -> object:
        """Something that is equal for two paths on one volume, as long as this process lives."""

    def lock(self, path: str) -> Callable[[], None]:
        """Take an exclusive lock on `path` (created if needed) or raise `BlockingIOError`; the
        answer releases it. The lock ends with the process."""


class Network(Protocol):
    """Frames to and from the other nodes. Delivery is not promised: frames may be lost, and
    frames of one sender arrive in order per class (urgent or not)."""

    def connect(self, addresses: Mapping[int, str]) -> None:
        """Keep a link to each of these nodes (node id to `host:port`), and to no others."""

    def send(
        self, target: int, frame: bytes, *, urgent: bool = False, patient: bool = False
    ) -> bool:
        """Queue a frame; False when it was dropped (no link, or its queue is full). Urgent frames
        (heartbeats, votes) overtake what waits, also between the pieces of a large frame. Patient
        ones, which come in dozens, may leave together at the end of the turn of the loop."""

    def identify(self, address: str, done: Done[Mapping[str, object]]) -> None:
        """Ask the node at `address` who it is: the dictionary it publishes about itself."""

    def ask(
        self,
        address: str,
        question: Mapping[str, object],
        done: Done[Mapping[str, object]],
        *,
        timeout_s: float,
    ) -> None:
        """Put a question to the node at `address`, member or not: what its `asked` answers."""

    def fetch(
        self,
        address: str,
        name: str,
        done: Done[bytes],
        *,
        timeout_s: float,
        heard: Callable[[], None],
    ) -> None:
        """Get the bytes that the node at `address` serves under this name (a part of an image), on
        a connection of its own; LookupError if it has none. `heard` is called when some have
        come."""
