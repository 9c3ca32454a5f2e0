"""Real links under real faults: killed processes, cut and stalled connections, any order of starts.

What every `Network` promises is in `test_contract.py`.
"""

from __future__ import annotations

import asyncio
import dataclasses
import random
import signal
import subprocess
import sys
import time
from typing import Any

import pytest

from rsqlite.config import Settings
from rsqlite.transport import frame
from rsqlite.transport.handshake import parse_address

DEFAULT = Settings(raft_addr="127.0.0.1:0", peer_backoff_min=0.01)
QUICK = dataclasses.replace(DEFAULT, peer_pulse=0.05, peer_stall_timeout=0.3)

CHILD = """
import asyncio, random, sys
from rsqlite.config import Settings
from rsqlite.node.loop import AsyncioLoop
from rsqlite.transport import PeerNetwork, frame

async def main():
    network = PeerNetwork(
        loop=AsyncioLoop(threads=1),
        settings=Settings(raft_addr="127.0.0.1:0", peer_backoff_min=0.01),
        node_id=2,
        random=random.Random(2),
        identity=dict,
        cluster_id=lambda: "c",
        accept_cluster=lambda cluster, source: False,
        asked=lambda question, answer: None,
        served=lambda name, answer: None,
        receive=lambda source, kind, payload: network.send(source, frame(6, payload)),
        opened=lambda node_id: None,
        closed=lambda node_id: None,
    )
    await network.start()
    network.connect({1: sys.argv[1]})
    print(network.address, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


class Child:
    """A peer in a process of its own, that sends back what it gets."""

    def __init__(self, address: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", CHILD, address], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.address = self._process.stdout.readline().strip()

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._process.kill()
        self._process.communicate()

    def signal(self, number: int) -> None:
        self._process.send_signal(number)


class Wire:
    """A wire that can be cut in either direction: bytes are no longer read, nothing is closed."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._may_pass = {"forth": asyncio.Event(), "back": asyncio.Event()}
        self.heal()
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> Wire:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.address = address_of(self._server)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.reset()
        await asyncio.sleep(0.01)

    def reset(self) -> None:
        """Reset all connections, on both sides."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    def cut(self, *ways: str) -> None:
        for way in ways:
            self._may_pass[way].clear()

    def heal(self) -> None:
        for event in self._may_pass.values():
            event.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        there_reader, there_writer = await asyncio.open_connection(*parse_address(self._target))
        self._writers.append(there_writer)
        forth, back = self._may_pass["forth"], self._may_pass["back"]
        self._tasks.add(asyncio.create_task(self._pass(forth, reader, there_writer)))
        self._tasks.add(asyncio.create_task(self._pass(back, there_reader, writer)))

    async def _pass(
        self, may: asyncio.Event, source: asyncio.StreamReader, target: asyncio.StreamWriter
    ) -> None:
        data = b"x"
        while data:
            await may.wait()
            try:
                data = await source.read(65_536)
                await may.wait()
                target.write(data)
                await target.drain()
            except ConnectionError:
                break
        target.transport.abort()


def address_of(server: asyncio.Server) -> str:
    return f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.slow
def test_a_killed_peer_is_noticed_at_once(play_sockets: Any) -> None:
    """The end of its connections tells, long before any timeout (design 1)."""

    async def scenario(world: Any) -> None:
        a = await world.peer(1)
        with Child(a.address) as child:
            a.network.connect({2: child.address})
            await world.until(lambda: a.is_linked(2))
            assert a.network.send(2, frame(5, b"hello"))
            await world.until(lambda: a.received == [(2, 6, b"hello")])
            killed = time.monotonic()
            child.signal(signal.SIGKILL)
            await world.until(lambda: 2 in a.closed)
            assert time.monotonic() - killed < 2
            await world.until(lambda: not a.link(2).is_connected and not a.link(2).is_heard)
            assert not a.network.send(2, frame(5, b""))

    # A stall timeout that cannot be what noticed it.
    play_sockets(scenario, dataclasses.replace(DEFAULT, peer_stall_timeout=60.0))


@pytest.mark.slow
def test_a_paused_peer_is_given_up_and_found_again(play_sockets: Any) -> None:
    """SIGSTOP leaves all connections open: only the signs of life are missing."""

    async def scenario(world: Any) -> None:
        a = await world.peer(1)
        with Child(a.address) as child:
            a.network.connect({2: child.address})
            await world.until(lambda: a.is_linked(2))
            child.signal(signal.SIGSTOP)
            await world.until(lambda: 2 in a.closed and not a.link(2).is_connected)
            await world.until(lambda: a.link(2).error == "no answer in time")
            child.signal(signal.SIGCONT)
            await world.until(lambda: a.is_linked(2))
            a.received.clear()
            await world.until(lambda: a.network.send(2, frame(5, b"again")) and bool(a.received))
            assert a.received[0] == (2, 6, b"again")

    play_sockets(scenario)


@pytest.mark.slow
@pytest.mark.parametrize("ways", [("forth",), ("back",), ("forth", "back")])
def test_a_cut_in_either_direction_is_noticed_on_both_sides_and_healed(
    play_sockets: Any, ways: tuple[str, ...]
) -> None:
    """Raft.md rule 47: plain TCP would keep a link that carries nothing for minutes."""

    async def scenario(world: Any) -> None:
        a, b = await world.peer(1), await world.peer(2)
        async with Wire(b.address) as wire:
            a.network.connect({2: wire.address})
            await world.until(lambda: a.opened == [2])
            wire.cut(*ways)
            await world.until(lambda: a.closed == [2])
            if ways == ("forth", "back"):
                # Cut in one direction only, either side may be the first to notice.
                assert a.network.links()[0].error.startswith("nothing heard for")
            await world.until(lambda: b.closed == [1])
            wire.heal()
            await world.until(lambda: len(a.opened) == 2)
            assert a.network.send(2, frame(5, b"back again"))
            await world.until(lambda: b.received == [(1, 5, b"back again")])
            a.network.connect({})

    play_sockets(scenario)


@pytest.mark.slow
def test_a_stalled_peer_costs_its_queue_and_then_its_link(play_sockets: Any) -> None:
    """Reliability F10: it accepts and never reads."""

    async def scenario(world: Any) -> None:
        a, b = await world.peer(1), await world.peer(2)
        async with Wire(b.address) as wire:
            a.network.connect({2: wire.address})
            await world.until(lambda: a.opened == [2])
            wire.cut("forth")
            taken = 0
            while a.network.send(2, frame(33, b"x" * 1_000_000)):
                taken += 1
                # What the kernels and the proxy hold comes on top of the queue.
                assert taken < 20
                await asyncio.sleep(0)
            assert a.link(2).waiting_bytes <= world.settings.peer_queue_bytes_max + 2_000_000
            await world.until(lambda: a.closed == [2])
            assert a.link(2).waiting_bytes == 0
            a.network.connect({})

    play_sockets(
        scenario,
        dataclasses.replace(QUICK, peer_frame_bytes_max=2_000_000, peer_queue_bytes_max=4_000_000),
    )


@pytest.mark.slow
def test_a_slow_link_that_moves_bytes_lives(play_sockets: Any) -> None:
    """Reliability F11: a frame that takes longer than the stall timeout is no stall."""

    async def scenario(world: Any) -> None:
        a, b = await world.peer(1), await world.peer(2)
        async with Wire(b.address) as wire:
            a.network.connect({2: wire.address})
            await world.until(lambda: a.opened == [2])
            assert a.network.send(2, frame(33, b"x" * 30_000_000))
            started = time.monotonic()
            while not b.received:
                wire.cut("forth")
                await asyncio.sleep(0.03)
                wire.heal()
                await asyncio.sleep(0.001)
                if time.monotonic() - started < 1.0:
                    continue
                wire.heal()
                await world.until(lambda: bool(b.received))
            assert time.monotonic() - started > 3 * world.settings.peer_stall_timeout
            assert a.closed == b.closed == []
            a.network.connect({})

    play_sockets(scenario, QUICK)


@pytest.mark.slow
def test_resets_leave_nothing_behind(play_sockets: Any) -> None:
    """Reliability F10, RST storms: links come back, connections and tasks do not pile up."""

    async def scenario(world: Any) -> None:
        a, b = await world.peer(1), await world.peer(2)
        async with Wire(b.address) as wire:
            a.network.connect({2: wire.address})
            for count in range(1, 15):
                await world.until(lambda count=count: len(a.opened) == count)
                wire.reset()
                await world.until(lambda count=count: len(a.closed) == count)
            await world.until(lambda: len(a.opened) == 15 and b.network._inbound != {})
            await world.until(lambda: len(b.network._listener._web.connections) == 1)
            await world.until(lambda: not a.network._tasks)
            a.network.connect({})

    # Each opening forgets the pauses: they would add up to minutes by now.
    play_sockets(scenario, dataclasses.replace(DEFAULT, peer_backoff_max=60.0))


@pytest.mark.slow
def test_nodes_find_each_other_whatever_the_order_of_their_starts(play_sockets: Any) -> None:
    async def scenario(world: Any) -> None:
        dice = random.Random(3)
        first = [await world.peer(node_id) for node_id in (1, 2, 3)]
        addresses = {peer.node_id: peer.address for peer in first}
        for peer in first:
            await world.stop(peer)
        for _ in range(3):
            dice.shuffle(first)
            for peer in first:
                await world.start(peer, addresses[peer.node_id])
                peer.network.connect(addresses)
                await world.pause(dice.random() * 0.1)
            await world.until(
                lambda: all(x.is_linked(y.node_id) for x in first for y in first if x is not y)
            )
            for peer in first:
                await world.stop(peer)

    play_sockets(scenario)


def test_heartbeats_get_through_while_large_frames_flow(play_sockets: Any) -> None:
    async def scenario(world: Any) -> None:
        a, b = await world.joined(1, 2)
        sent_at: dict[bytes, float] = {}
        waits: list[float] = []

        def arrived(source: int, kind: int, payload: bytes) -> None:
            if kind == 5:
                waits.append(time.monotonic() - sent_at[payload])

        b.on_receive = arrived
        for _ in range(6):
            assert a.network.send(2, frame(33, b"x" * 5_000_000))
        for number in range(20):
            sent_at[b"%d" % number] = time.monotonic()
            assert a.network.send(2, frame(5, b"%d" % number), urgent=True)
            await asyncio.sleep(0.002)
        await world.until(lambda: len(b.received) == 26)
        order = [kind for _, kind, _ in b.received]
        assert order.index(5) < order.index(33), "the first overtook the first large frame"
        assert len(waits) == 20

    play_sockets(scenario)


def test_a_stop_with_attempts_and_questions_under_way_calls_nobody(play_sockets: Any) -> None:
    async def scenario(world: Any) -> None:
        a, b = await world.peer(1), await world.peer(2)
        async with Wire(b.address) as wire:
            wire.cut("forth")
            a.network.connect({2: wire.address, 3: "127.0.0.1:1"})
            answers: list[Any] = []
            a.network.identify(wire.address, lambda value, error: answers.append(error))
            await world.pause(0.02)
            tasks = set(a.network._tasks)
            assert len(tasks) >= 2
            started = time.monotonic()
            await world.stop(a)
            assert time.monotonic() - started < 10, "it does not wait for those timeouts"
            assert all(task.done() for task in tasks)
            assert answers == a.opened == a.closed == []
            assert a.network.links() == ()
            assert not a.network.send(2, frame(5, b""))

    play_sockets(scenario, dataclasses.replace(DEFAULT, peer_connect_timeout=30.0))


def test_what_was_sent_before_a_stop_arrives(play_sockets: Any) -> None:
    """A leader that hands over says so in its last frame."""

    async def scenario(world: Any) -> None:
        a, b = await world.joined(1, 2)
        assert a.network.send(2, frame(7, b"take over"), urgent=True)
        await world.stop(a)
        await world.until(lambda: b.received == [(1, 7, b"take over")] and 1 in b.closed)

    play_sockets(scenario)
