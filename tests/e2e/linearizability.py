"""Is a history of one register linearizable? The algorithm of Wing and Gong with Lowe's cache.

It looks for an order of the operations that respects real time (one that returned before another
was called comes first) and in which each operation gets what a register held by one process would
have given it. An operation whose outcome is unknown may take effect at any time after its call, or
never. The cost grows steeply with concurrency: keep to ten clients and 300 operations a register.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

STATES_MAX = 2_000_000
"""Configurations looked at before giving up; a history kept small needs some thousands."""


class Undecided(Exception):
    """The search was given up. This is no verdict, and a run that has one has not passed."""


@dataclass(frozen=True, slots=True)
class Operation:
    """`called` and `returned` are places in one order of all events; None: never known to return.

    read:  `got` is what it returned (reads that returned nothing have no place in a history).
    write: `value` is what it wrote.
    cas:   `value` replaces `expected` if that is there; `got` says whether it was (None: unknown).
    """

    kind: Literal["read", "write", "cas"]
    called: int
    returned: int | None
    value: int | None = None
    expected: int | None = None
    got: int | bool | None = None


def step(state: int | None, operation: Operation) -> tuple[bool, int | None]:
    """Whether `operation` may happen in `state`, and the state after it."""
    match operation.kind:
        case "read":
            return operation.got == state, state
        case "write":
            return True, operation.value
        case "cas":
            is_there = state == operation.expected
            may_happen = operation.got is None or operation.got == is_there
            return may_happen, operation.value if is_there else state


class _Event:
    """A call or a return in the list of what is not yet put in order."""

    __slots__ = ("end", "next", "number", "operation", "previous")

    def __init__(self, number: int, operation: Operation) -> None:
        self.number = number
        self.operation = operation
        self.end: _Event | None = None
        """For a call: its return. None: this is a return, or a call that never returned."""
        self.previous: _Event = self
        self.next: _Event | None = None

    def remove(self) -> None:
        self.previous.next = self.next
        if self.next is not None:
            self.next.previous = self.previous

    def put_back(self) -> None:
        self.previous.next = self
        if self.next is not None:
            self.next.previous = self


def _list_of(operations: Sequence[Operation]) -> _Event:
    """The events in their order, behind a head that is none."""
    events: list[tuple[int, int, _Event]] = []
    for number, operation in enumerate(operations):
        call = _Event(number, operation)
        # At the same place a call comes before a return: the two overlap.
        events.append((operation.called, 0, call))
        if operation.returned is not None:
            call.end = _Event(number, operation)
            events.append((operation.returned, 1, call.end))
    events.sort(key=lambda event: event[:2])
    head = last = _Event(-1, Operation("read", -1, None))
    for _, _, event in events:
        last.next, event.previous = event, last
        last = event
    return head


def is_linearizable(operations: Sequence[Operation], initial: int | None) -> bool:
    """Whether some order explains all operations on a register that held `initial` before."""
    head = _list_of(operations)
    state = initial
    done = 0  # a bit for each operation that has its place
    missing = sum(operation.returned is not None for operation in operations)
    seen: set[tuple[int, int | None]] = set()
    taken: list[tuple[_Event, int | None]] = []
    event = head.next
    while missing:
        # Returns of operations without a place are in the list, so it cannot end before one.
        assert event is not None
        if not _is_return(event):
            may_happen, after = step(state, event.operation)
            key = (done | 1 << event.number, after)
            if may_happen and key not in seen:
                seen.add(key)
                if len(seen) > STATES_MAX:
                    raise Undecided(f"more than {STATES_MAX} configurations")
                taken.append((event, state))
                state, done = after, key[0]
                event.remove()
                if event.end is not None:
                    event.end.remove()
                    missing -= 1
                event = head.next
            else:
                event = event.next
            continue
        # Something returned here and has no place yet: what was chosen last was wrong.
        if not taken:
            return False
        event, state = taken.pop()
        done &= ~(1 << event.number)
        if event.end is not None:
            event.end.put_back()
            missing += 1
        event.put_back()
        event = event.next
    return True


def _is_return(event: _Event) -> bool:
    return event.end is None and event.operation.returned is not None
