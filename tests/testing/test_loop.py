"""The contract of a Loop: the real ones (asyncio, uvloop) and the one with virtual time keep it
alike."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from rsqlite.node.loop import AsyncioLoop
from rsqlite.ports import Loop
from rsqlite.testing.loop import ManualLoop, PausableLoop

Scenario = Callable[[Loop, Callable[[], None]], Callable[[], None]]
"""Sets something going; calls its second argument when all has happened; gives the checks."""

TIME_MAX_S = 10.0


def run_asyncio(scenario: Scenario, factory: Any = None) -> None:
    async def main() -> None:
        loop = AsyncioLoop(threads=2)
        ended = asyncio.Event()
        check = scenario(loop, ended.set)
        await asyncio.wait_for(ended.wait(), TIME_MAX_S)
        check()
        loop.close()

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())


def run_uvloop(scenario: Scenario) -> None:
    run_asyncio(scenario, pytest.importorskip("uvloop").new_event_loop)


def run_manual(scenario: Scenario) -> None:
    loop = ManualLoop()
    ended: list[bool] = []
    check = scenario(loop, lambda: ended.append(True))
    loop.advance(TIME_MAX_S)
    assert ended
    check()


@pytest.fixture(params=[run_asyncio, run_uvloop, run_manual])
def run(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_calls_run_in_the_order_they_were_asked_for(run: Callable[[Scenario], None]) -> None:
    def scenario(loop: Loop, ended: Callable[[], None]) -> Callable[[], None]:
        seen: list[int] = []
        for number in range(5):
            loop.call_soon(seen.append, number)
        assert seen == [], "never before the call that asked returns"
        loop.call_soon(ended)

        def check() -> None:
            assert seen == [0, 1, 2, 3, 4]

        return check

    run(scenario)


def test_later_calls_run_when_due_and_not_when_cancelled(run: Callable[[Scenario], None]) -> None:
    def scenario(loop: Loop, ended: Callable[[], None]) -> Callable[[], None]:
        seen: list[tuple[str, float]] = []
        started = loop.monotonic()

        def note(name: str) -> None:
            seen.append((name, loop.monotonic() - started))

        loop.call_later(0.04, note, "late")
        loop.call_later(0.01, note, "early")
        loop.call_later(0.02, note, "cancelled").cancel()
        loop.call_later(0.06, ended)

        def check() -> None:
            assert [name for name, _ in seen] == ["early", "late"]
            # A timer of asyncio's may be early by the resolution of its clock.
            assert seen[0][1] >= 0.009
            assert seen[1][1] >= 0.039

        return check

    run(scenario)


def test_a_worker_keeps_the_order_and_tells_of_errors(run: Callable[[Scenario], None]) -> None:
    def scenario(loop: Loop, ended: Callable[[], None]) -> Callable[[], None]:
        worker = loop.worker("log")
        told: list[tuple[object, BaseException | None]] = []
        broken = ValueError("broken")

        def fail() -> None:
            raise broken

        def done(value: object, error: BaseException | None) -> None:
            told.append((value, error))

        worker.submit(lambda: 1, done)
        worker.submit(fail, done)
        worker.submit(lambda: 3, done)
        worker.submit(lambda: None, lambda value, error: ended())
        assert told == [], "never before submit returns"

        def check() -> None:
            assert told == [(1, None), (None, broken), (3, None)]
            worker.close()

        return check

    run(scenario)


def test_closing_a_worker_finishes_what_was_submitted(run: Callable[[Scenario], None]) -> None:
    def scenario(loop: Loop, ended: Callable[[], None]) -> Callable[[], None]:
        worker = loop.worker("log")
        ran: list[int] = []
        for number in range(3):
            worker.submit(lambda number=number: ran.append(number), lambda value, error: None)
        worker.close()
        assert ran == [0, 1, 2]
        ended()
        return lambda: None

    run(scenario)


def test_pooled_work_is_told_on_the_loop(run: Callable[[Scenario], None]) -> None:
    def scenario(loop: Loop, ended: Callable[[], None]) -> Callable[[], None]:
        home = threading.get_ident()
        told: list[tuple[int | None, BaseException | None, bool]] = []

        def done(value: int | None, error: BaseException | None) -> None:
            told.append((value, error, threading.get_ident() == home))
            ended()

        loop.submit(lambda: 42, done)

        def check() -> None:
            assert told == [(42, None, True)]

        return check

    run(scenario)


def test_the_wall_clock_is_that_of_the_machine_or_of_the_test() -> None:
    async def wall() -> float:
        loop = AsyncioLoop(threads=1)
        try:
            return loop.wall()
        finally:
            loop.close()

    assert abs(asyncio.run(wall()) - time.time()) < 5
    manual = ManualLoop(wall=1000.0)
    manual.advance(2.5)
    assert (manual.monotonic(), manual.wall()) == (2.5, 1002.5)


def test_real_work_runs_beside_the_loop() -> None:
    def scenario(loop: Loop, ended: Callable[[], None]) -> Callable[[], None]:
        threads: list[int] = []
        loop.worker("log").submit(
            lambda: threads.append(threading.get_ident()), lambda value, error: ended()
        )

        def check() -> None:
            assert threads[0] != threading.get_ident()

        return check

    run_asyncio(scenario)


def test_what_dies_on_the_loop_is_told() -> None:
    async def main() -> None:
        ended = asyncio.Event()
        told: list[str] = []

        def failed(error: BaseException) -> None:
            told.append(str(error))
            if len(told) == 5:
                ended.set()

        def die(text: str, *_: object) -> None:
            raise ValueError(text)

        loop = AsyncioLoop(threads=1, failed=failed)
        worker = loop.worker("log")
        loop.call_soon(die, "soon")
        loop.call_later(0.0, die, "later")
        loop.submit(int, partial(die, "pool"))
        worker.submit(int, partial(die, "worker"))
        loop.call(die, "now")
        await asyncio.wait_for(ended.wait(), TIME_MAX_S)
        worker.close()
        loop.close()
        assert sorted(told) == ["later", "now", "pool", "soon", "worker"]

    asyncio.run(main())


def test_what_is_given_to_a_loop_after_its_end_is_dropped() -> None:
    async def make() -> AsyncioLoop:
        return AsyncioLoop(threads=1)

    loop = asyncio.run(make())
    with pytest.raises(RuntimeError, match="closed"):
        loop.call_soon(print)
    loop.end()
    loop.call_soon(print, "never").cancel()
    loop.call_later(1.0, print, "never").cancel()
    loop.close()


def test_a_paused_worker_holds_its_work_back() -> None:
    loop = ManualLoop()
    worker = loop.worker("log")
    ran: list[str] = []
    worker.pause()
    worker.submit(lambda: ran.append("work"), lambda value, error: ran.append("told"))
    loop.advance(1)
    assert ran == []
    worker.resume()
    loop.run()
    assert ran == ["work", "told"]


def test_a_loop_that_never_rests_is_noticed() -> None:
    loop = ManualLoop()

    def again() -> None:
        loop.call_soon(again)

    again()
    with pytest.raises(AssertionError, match="still busy after 100 steps"):
        loop.run(steps_max=100)


def test_a_node_that_is_paused_runs_later_and_in_order() -> None:
    loop = ManualLoop()
    node = PausableLoop(loop)
    done: list[str] = []
    node.call_later(1.0, done.append, "first")
    second = node.call_later(2.0, done.append, "second")
    node.call_later(3.0, second.cancel)
    hear = node.from_outside(done.append)
    node.pause()
    loop.advance(2.5)
    hear("a message")
    loop.advance(1.0)
    assert (done, node.is_paused) == ([], True)
    node.resume()
    loop.run()
    assert done == ["first", "second", "a message"]
    hear("another")
    assert done[-1] == "another"


def test_a_node_has_a_wall_clock_of_its_own() -> None:
    loop = ManualLoop()
    node = PausableLoop(loop)
    node.wall_offset_s = -10.0
    loop.advance(1.0)
    assert node.wall() == loop.wall() - 10.0
    assert node.monotonic() == loop.monotonic()


def test_work_on_files_does_not_wait_for_long_reads() -> None:
    async def main() -> None:
        loop = AsyncioLoop(threads=2)
        may_end, done = threading.Event(), asyncio.Event()
        for _ in range(6):
            loop.submit_read(may_end.wait, lambda value, error: None)
        loop.submit(lambda: None, lambda value, error: done.set())
        try:
            await asyncio.wait_for(done.wait(), TIME_MAX_S)
        finally:
            may_end.set()
            loop.close()

    asyncio.run(main())
