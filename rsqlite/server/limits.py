"""What bounds the server as a whole: bytes under way, and the counters that show the load."""

from __future__ import annotations

from dataclasses import dataclass

from rsqlite.request import RequestKind


class ByteBudget:
    """Bytes of request bodies, or of answers, over all connections. Who takes gives back."""

    __slots__ = ("maximum", "used")

    def __init__(self, maximum: int) -> None:
        self.maximum = maximum
        self.used = 0

    @property
    def is_full(self) -> bool:
        return self.used >= self.maximum

    def has(self, count: int) -> bool:
        """Whether `count` bytes are left. Bodies take them only as they arrive: a client that
        announces much and sends nothing takes nothing away from others."""
        return self.used + count <= self.maximum

    def take(self, count: int) -> bool:
        """Reserve `count` bytes; False when that many are not left."""
        if self.used + count > self.maximum:
            return False
        self.used += count
        return True

    def force(self, count: int) -> None:
        """Reserve bytes that exist already, an answer's; what comes next finds less."""
        self.used += count

    def give(self, count: int) -> None:
        self.used -= count
        assert self.used >= 0

    def __repr__(self) -> str:
        return f"<ByteBudget {self.used} of {self.maximum}>"


@dataclass(slots=True)
class HttpCounters:
    """Counted since the start. `requests` are those of both paths."""

    requests: int = 0
    shortcut_requests: int = 0
    executions: int = 0
    queries: int = 0
    mixed: int = 0
    failures: int = 0
    connections: int = 0
    connections_refused: int = 0
    deadlines_missed: int = 0
    overloads: int = 0

    def count(self, kind: RequestKind) -> None:
        """One more request of `kind`."""
        if kind is RequestKind.EXECUTE:
            self.executions += 1
        elif kind is RequestKind.QUERY:
            self.queries += 1
        else:
            self.mixed += 1
