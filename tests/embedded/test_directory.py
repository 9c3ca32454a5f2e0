"""Where a node may be, and whose turn it is there."""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import Future
from pathlib import Path

import pytest
from rsqlite_client.errors import OperationalError

from rsqlite.embedded.directory import Directory, Turns


def test_a_temporary_one_goes_and_another_stays(tmp_path: Path) -> None:
    temporary = Directory(":memory:")
    temporary.check()
    assert os.listdir(temporary.path) == []
    temporary.remove()
    assert not os.path.exists(temporary.path)
    kept = Directory(str(tmp_path))
    kept.remove()
    assert tmp_path.exists()


def test_one_directory_has_one_name(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "data")
    assert Directory(str(tmp_path / "link")).path == Directory(f"{tmp_path}/./data/").path


def test_what_is_no_place_for_a_node(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for target, text in (("file", "is a file"), ("none/data", "is no directory")):
        with pytest.raises(OperationalError, match=f"unable to open database file: .*{text}") as e:
            Directory(str(tmp_path / target)).check()
        assert e.value.sqlite_errorname == "SQLITE_CANTOPEN"
    Directory(str(tmp_path / "data")).check()


def test_threads_take_turns() -> None:
    turns = Turns()
    order: list[str] = []
    inside = threading.Event()

    def second() -> None:
        inside.wait(5.0)
        with turns.turn("a"):
            order.append("second")

    thread = threading.Thread(target=second)
    thread.start()
    with turns.turn("a"):
        inside.set()
        with turns.turn("b"):
            order.append("another directory")
        order.append("first")
    thread.join()
    assert order == ["another directory", "first", "second"]
    assert turns._last == {}


async def test_tasks_and_threads_take_turns() -> None:
    turns = Turns()
    order: list[str] = []

    async def task(name: str) -> None:
        async with turns.turn_async("a"):
            order.append(name)
            await asyncio.sleep(0)
            order.append(name)

    def block() -> None:
        with turns.turn("a"):
            order.append("thread")

    async with turns.turn_async("a"):
        tasks = [asyncio.ensure_future(task(name)) for name in ("one", "two")]
        await asyncio.sleep(0)
        thread = asyncio.ensure_future(asyncio.to_thread(block))
        order.append("first")
    await asyncio.gather(*tasks, thread)
    assert order[:1] == ["first"]
    assert [*order].count("thread") == 1
    assert [name for name in order if name != "thread"] == ["first", "one", "one", "two", "two"]


async def test_who_gives_up_waiting_holds_nobody_up() -> None:
    turns = Turns()

    async def wait() -> None:
        async with turns.turn_async("a"):
            raise AssertionError("it was cancelled")

    async with turns.turn_async("a"):
        task = asyncio.ensure_future(wait())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    async with asyncio.timeout(5.0), turns.turn_async("a"):
        pass
    assert turns._last == {}


def test_who_is_interrupted_while_it_waits_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C comes in the midst of the wait."""
    turns = Turns()

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with turns.turn("a"), monkeypatch.context() as patch:
        patch.setattr(Future, "result", interrupt)
        with pytest.raises(KeyboardInterrupt), turns.turn("a"):
            pass
    with turns.turn("a"):
        pass
    assert turns._last == {}
