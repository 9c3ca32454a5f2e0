"""fdatasync in the background, by the kernel's own asynchronous I/O (Linux `io_submit`).

A thread that syncs must take the GIL before and after, and on a busy leader it waits for it: 300 µs
from the append to the sync were measured at 16 clients, as long as the sync itself. Here the loop
submits an `IOCB_CMD_FDSYNC` in one system call and hears of its end through an eventfd. Where the
kernel or the file system does not offer it, `open` gives None or `submit` False, and the log's
thread does the work.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import platform
import sys
import threading
from collections.abc import Callable

from rsqlite.errors import InvariantViolation

Ended = Callable[[BaseException | None], None]

_NUMBERS = {"x86_64": (206, 207, 208, 209), "aarch64": (0, 1, 4, 2)}
"""System call numbers of io_setup, io_destroy, io_getevents, io_submit (64-bit ABIs)."""
_FDSYNC = 3
_RESFD = 1
_EVENTS_MAX = 16
"""Syncs under way at once; a log has one."""


class _Control(ctypes.Structure):
    """`struct iocb` of <linux/aio_abi.h>, little endian."""

    _fields_ = (
        ("data", ctypes.c_uint64),
        ("key", ctypes.c_uint32),
        ("rw_flags", ctypes.c_uint32),
        ("opcode", ctypes.c_uint16),
        ("priority", ctypes.c_int16),
        ("fd", ctypes.c_uint32),
        ("buffer", ctypes.c_uint64),
        ("bytes", ctypes.c_uint64),
        ("offset", ctypes.c_int64),
        ("reserved", ctypes.c_uint64),
        ("flags", ctypes.c_uint32),
        ("eventfd", ctypes.c_uint32),
    )


class _Event(ctypes.Structure):
    """`struct io_event`."""

    _fields_ = (
        ("data", ctypes.c_uint64),
        ("control", ctypes.c_uint64),
        ("result", ctypes.c_int64),
        ("result2", ctypes.c_int64),
    )


class KernelSync:
    """Syncs under way in the kernel. Belongs to the loop's thread: who hears of their ends commits,
    and answers clients."""

    def __init__(
        self, context: ctypes.c_ulong, numbers: tuple[int, int, int, int], eventfd: int
    ) -> None:
        # PyDLL keeps the GIL: none of these calls waits, but for `wait`, which means to.
        self._call = _system_call()
        self._context = context
        _, self._destroy, self._getevents, self._submit = numbers
        self.eventfd = eventfd
        """Readable when a sync has ended: call `collect` then."""
        self._thread = threading.get_ident()
        self._tokens = itertools.count(1)
        self._under_way: dict[int, tuple[_Control, Ended]] = {}
        self._events = (_Event * _EVENTS_MAX)()
        self._no_wait = (ctypes.c_long * 2)(0, 0)

    def __repr__(self) -> str:
        return f"<KernelSync under way={len(self._under_way)}>"

    @staticmethod
    def open() -> KernelSync | None:
        """None where the kernel has no such thing, or allows no more of it."""
        numbers = _NUMBERS.get(platform.machine())
        if sys.platform != "linux" or sys.byteorder != "little" or numbers is None:
            return None
        context = ctypes.c_ulong(0)
        if _system_call()(numbers[0], _EVENTS_MAX, ctypes.byref(context)) != 0:
            return None
        return KernelSync(context, numbers, os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC))

    def submit(self, fd: int, ended: Ended) -> bool:
        """Begin a fdatasync of `fd`; `ended` comes from a later `collect`. False: not begun."""
        if not self._under_way:
            self._thread = threading.get_ident()
        if len(self._under_way) >= _EVENTS_MAX:
            return False
        token = next(self._tokens)
        control = _Control(data=token, opcode=_FDSYNC, fd=fd, flags=_RESFD, eventfd=self.eventfd)
        pointer = ctypes.c_void_p(ctypes.addressof(control))
        if self._call(self._submit, self._context, 1, ctypes.byref(pointer)) != 1:
            return False
        self._under_way[token] = (control, ended)
        return True

    def collect(self) -> None:
        """Tell the ends of those that have ended."""
        try:
            os.eventfd_read(self.eventfd)
        except BlockingIOError:
            return
        self._take(0)

    def wait(self) -> None:
        """Wait until nothing is under way, and tell the ends."""
        while self._under_way:
            self._take(1)

    def take_over(self) -> None:
        """The loop has ended: this thread does what is left to do, and hears of the ends."""
        self._thread = threading.get_ident()

    def close(self) -> None:
        """Wait, and give everything back. Stop watching `eventfd` before."""
        self.wait()
        self._call(self._destroy, self._context)
        os.close(self.eventfd)

    def _take(self, least: int) -> None:
        if threading.get_ident() != self._thread:
            raise InvariantViolation("the end of a sync is to be told in another thread")
        limit = None if least else self._no_wait
        count = self._call(self._getevents, self._context, least, _EVENTS_MAX, self._events, limit)
        for event in self._events[: max(0, count)]:
            _, ended = self._under_way.pop(event.data)
            error = None
            if event.result < 0:
                error = OSError(-event.result, os.strerror(-event.result))
            ended(error)


def _system_call() -> Callable[..., int]:
    call = ctypes.PyDLL(None, use_errno=True).syscall
    call.restype = ctypes.c_long
    return call
