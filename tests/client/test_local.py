"""The shells for a node in this process, over a node that does what the test says."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from rsqlite_client import local
from rsqlite_client.errors import (
    AmbiguousResultError,
    IntegrityError,
    ProgrammingError,
    UnavailableError,
)
from rsqlite_client.local import (
    AsyncLocalChannel,
    Done,
    LocalChannel,
    NotApplied,
    Patience,
    Reply,
)
from rsqlite_client.proto import Command, Form, ReadLevel, Result
from rsqlite_client.statement import Statement


class FakeNode:
    """Answers with `replies` in turn; None: not at all."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *replies: Reply | None) -> None:
        self.loop = loop
        self.replies = list(replies)
        self.asked: list[tuple[int, int]] = []
        """`min_index`, and the thread."""
        self.aside: tuple[Reply, int] | None = None
        self.is_late = False
        self.released = 0

    def submit(self, command: Command, timeout_s: float, min_index: int, done: Done) -> None:
        self.asked.append((min_index, threading.get_ident()))
        reply = self.replies.pop(0)
        if reply is None:
            return
        if self.is_late:
            self.loop.call_soon(done, reply, 7)
        else:
            done(reply, 7)

    def read(self, command: Command, timeout_s: float, min_index: int) -> tuple[Reply, int] | None:
        return self.aside

    def release(self) -> None:
        self.released += 1

    async def release_async(self) -> None:
        self.released += 1


def command(sql: str = "INSERT INTO t VALUES(1)", level: ReadLevel = ReadLevel.WEAK) -> Command:
    return Command(Statement(sql), Form.ONE, ((),), level)


@contextmanager
def loop_in_a_thread() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture
def other_loop() -> Iterator[asyncio.AbstractEventLoop]:
    with loop_in_a_thread() as loop:
        yield loop


def test_a_command_crosses_to_the_nodes_loop(other_loop: asyncio.AbstractEventLoop) -> None:
    node = FakeNode(other_loop, Result(lastrowid=5), IntegrityError("no"))
    channel = LocalChannel(node, 5.0)
    assert channel.run(command()).lastrowid == 5
    with pytest.raises(IntegrityError):
        channel.run(command())
    assert {thread for _, thread in node.asked} != {threading.get_ident()}
    channel.close()
    assert node.released == 1


def test_what_goes_wrong_on_the_loop_is_raised_where_somebody_waits(
    other_loop: asyncio.AbstractEventLoop,
) -> None:
    with pytest.raises(IndexError, match="pop from empty list"):
        LocalChannel(FakeNode(other_loop), 5.0).run(command())


def test_what_was_not_applied_is_asked_again(other_loop: asyncio.AbstractEventLoop) -> None:
    node = FakeNode(other_loop, NotApplied("no leader"), NotApplied("no leader"), Result())
    LocalChannel(node, 5.0).run(command())
    assert len(node.asked) == 3


def test_until_the_time_is_over(other_loop: asyncio.AbstractEventLoop) -> None:
    node = FakeNode(other_loop, *[NotApplied("no leader")] * 9)
    with pytest.raises(UnavailableError, match=r"within 0\.1 s, and nothing was applied: no lead"):
        LocalChannel(node, 0.1).run(command())


def test_pauses_fit_into_the_time() -> None:
    patience = Patience(10.0)
    assert 9.9 < patience.left_s() <= 10.0
    assert [patience.pause_s(NotApplied("x")) for _ in range(3)] == [0.05, 0.1, 0.2]
    with pytest.raises(UnavailableError):
        Patience(0.0).pause_s(NotApplied("x"))
    assert Patience(-1.0).left_s() == 0.0


def test_a_node_that_says_nothing(
    other_loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "GRACE_S", 0.01)
    node = FakeNode(other_loop, None, None)
    with pytest.raises(AmbiguousResultError, match="before you repeat it"):
        LocalChannel(node, 0.01).run(command())
    with pytest.raises(UnavailableError):
        LocalChannel(node, 0.01).run(command("SELECT 1"))


def test_a_read_that_the_thread_can_do_does_not_cross(
    other_loop: asyncio.AbstractEventLoop,
) -> None:
    node = FakeNode(other_loop, Result(), Result())
    channel = LocalChannel(node, 5.0)
    node.aside = Result(changes=9), 3
    assert channel.run(command("SELECT 1")).changes == 9
    assert channel.run(command()).changes == 0, "a write always does"
    node.aside = None
    assert channel.run(command("SELECT 1")).changes == 0


def test_a_session_reads_what_it_wrote(other_loop: asyncio.AbstractEventLoop) -> None:
    node = FakeNode(other_loop, Result(), Result(), Result())
    channel = LocalChannel(node, 5.0)
    channel.run(command("SELECT 1", ReadLevel.NONE))
    channel.run(command("SELECT 1", ReadLevel.NONE))
    channel.run(command("SELECT 1", ReadLevel.STRONG))
    assert [index for index, _ in node.asked] == [0, 7, 0]


async def test_to_block_the_nodes_own_loop_is_refused() -> None:
    node = FakeNode(asyncio.get_running_loop(), Result())
    channel = LocalChannel(node, 5.0)
    for call in (lambda: channel.run(command()), channel.close):
        with pytest.raises(ProgrammingError, match=r"use rsqlite\.aio\.connect"):
            call()


def test_a_loop_that_has_ended_is_told() -> None:
    with loop_in_a_thread() as loop:
        pass
    with pytest.raises(ProgrammingError, match="event loop has ended"):
        LocalChannel(FakeNode(loop), 5.0).run(command())
    with pytest.raises(ProgrammingError, match="event loop has ended"):
        asyncio.run(AsyncLocalChannel(FakeNode(loop), 5.0).run(command()))


async def test_on_the_nodes_own_loop_nothing_is_handed_over() -> None:
    node = FakeNode(asyncio.get_running_loop(), Result(lastrowid=1), NotApplied("x"), Result())
    channel = AsyncLocalChannel(node, 5.0)
    assert (await channel.run(command())).lastrowid == 1
    node.is_late = True
    await channel.run(command())
    assert {thread for _, thread in node.asked} == {threading.get_ident()}
    await channel.close()
    assert node.released == 1


async def test_another_loop_is_reached_from_one() -> None:
    def start() -> tuple[asyncio.AbstractEventLoop, threading.Thread]:
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        return loop, thread

    loop, thread = start()
    node = FakeNode(loop, Result(lastrowid=1), IntegrityError("no"))
    channel = AsyncLocalChannel(node, 5.0)
    assert (await channel.run(command())).lastrowid == 1
    with pytest.raises(IntegrityError):
        await channel.run(command())
    loop.call_soon_threadsafe(loop.stop)
    await asyncio.to_thread(thread.join)
    loop.close()


async def test_a_silent_node_is_given_up_on_a_loop_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "GRACE_S", 0.01)
    node = FakeNode(asyncio.get_running_loop(), None, *[NotApplied("x")] * 9)
    with pytest.raises(AmbiguousResultError):
        await AsyncLocalChannel(node, 0.01).run(command())
    begun = time.monotonic()
    with pytest.raises(UnavailableError):
        await AsyncLocalChannel(node, 0.1).run(command())
    assert time.monotonic() - begun < 5.0


def test_what_shells_are_called(other_loop: asyncio.AbstractEventLoop) -> None:
    make: Callable[..., object]
    for make in (LocalChannel, AsyncLocalChannel):
        assert "FakeNode" in repr(make(FakeNode(other_loop), 1.0))


def test_an_answer_for_a_loop_that_has_ended_is_nobodys() -> None:
    """It must not be the node's, which gives it in the midst of its own work."""
    answers: list[Done] = []
    is_asked = threading.Event()

    class Silent(FakeNode):
        def submit(self, command: Command, timeout_s: float, min_index: int, done: Done) -> None:
            answers.append(done)
            is_asked.set()

    async def give_up(node: FakeNode) -> None:
        asking = asyncio.ensure_future(AsyncLocalChannel(node, 5.0).run(command()))
        await asyncio.to_thread(is_asked.wait)
        asking.cancel()

    with loop_in_a_thread() as loop:
        asyncio.run(give_up(Silent(loop)))
    answers[0](Result(), 7)
