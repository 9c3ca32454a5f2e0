"""The fake network: its cuts, the death of nodes, and that a seed replays.

What it shares with the real one is in tests/transport/test_contract.py.
"""

from __future__ import annotations

import random
from typing import Any

import pytest

from rsqlite.testing.lanes import Weather
from rsqlite.testing.loop import ManualLoop
from rsqlite.testing.network import MemoryNetwork, Switchboard
from rsqlite.transport import frame


class Node:
    """A node that writes down what it hears, and when."""

    def __init__(self, board: Switchboard, node_id: int) -> None:
        self.board = board
        self.heard: list[tuple[float, int]] = []
        self.events: list[tuple[str, int]] = []
        self.network: MemoryNetwork = board.network(
            node_id=node_id,
            address=f"memory:{node_id}",
            identity=dict,
            cluster_id=lambda: "c",
            accept_cluster=lambda cluster, source: False,
            asked=lambda question, answer: None,
            served=lambda name, answer: None,
            receive=self.receive,
            opened=lambda other: self.events.append(("opened", other)),
            closed=lambda other: self.events.append(("closed", other)),
        )

    def receive(self, source: int, kind: int, payload: bytes | memoryview) -> None:
        self.heard.append((self.board.loop.monotonic(), int(bytes(payload))))

    @property
    def numbers(self) -> list[int]:
        return [number for _, number in self.heard]


def linked(board: Switchboard) -> tuple[Node, Node]:
    """Two nodes with links both ways."""
    nodes = Node(board, 1), Node(board, 2)
    addresses = {1: "memory:1", 2: "memory:2"}
    for node in nodes:
        node.network.start()
        node.network.connect(addresses)
    board.loop.advance(1.0)
    assert ("opened", 2) in nodes[0].events
    assert ("opened", 1) in nodes[1].events
    return nodes


def board(seed: int = 1, **weather: Any) -> Switchboard:
    return Switchboard(ManualLoop(), random.Random(seed), weather=Weather(**weather))


def send(node: Node, target: int, count: int) -> None:
    for number in range(count):
        assert node.network.send(target, frame(5, b"%d" % number), urgent=True)


def run(seed: int) -> list[tuple[float, int]]:
    world = board(seed, delay_max_s=0.1, loss=0.1, duplicate=0.1, reorder=0.3)
    a, b = linked(world)
    send(a, 2, 100)
    world.loop.advance(1.0)
    return b.heard


def test_a_seed_replays() -> None:
    assert run(7) == run(7)
    assert run(7) != run(8)


def test_a_cut_is_one_way_until_the_stall_is_noticed_on_both_sides() -> None:
    world = board()
    a, b = linked(world)
    world.cut(1, 2)
    send(a, 2, 3)
    send(b, 1, 3)
    world.loop.advance(1.0)
    assert b.heard == []
    assert a.numbers == [0, 1, 2]
    assert ("closed", 2) not in a.events
    world.loop.advance(10.0)
    assert ("closed", 2) in a.events
    assert ("closed", 1) in b.events
    # A handshake needs both directions.
    assert not a.network.send(2, frame(5, b"9"))
    assert not b.network.send(1, frame(5, b"9"))
    assert [link.error for link in a.network.links()] == ["no answer in time"]
    world.heal(1, 2)
    world.loop.advance(5.0)
    send(a, 2, 1)
    world.loop.advance(1.0)
    assert b.numbers == [0]


def test_heal_can_name_a_side() -> None:
    world = board()
    for pair in ((1, 2), (2, 1), (1, 3)):
        world.cut(*pair)
    world.heal(target=2)
    assert not world.is_cut(1, 2)
    assert world.is_cut(2, 1)
    world.heal(source=1)
    assert not world.is_cut(1, 3)
    assert world.is_apart(1, 2)
    world.heal()
    assert not world.is_apart(1, 2)


def test_the_death_of_a_node_is_heard_within_a_frames_delay() -> None:
    world = board(delay_min_s=0.01, delay_max_s=0.01)
    a, b = linked(world)
    send(b, 1, 5)
    b.network.stop()
    world.loop.advance(0.011)
    assert ("closed", 2) in a.events
    assert a.heard == [], "what was in flight is lost with the connection"
    assert b.events == [("opened", 1)]


def test_the_death_of_a_node_behind_a_cut_is_heard_after_it() -> None:
    world = board()
    a, b = linked(world)
    world.cut(2, 1)
    b.network.stop()
    world.loop.advance(0.5)
    assert ("closed", 2) not in a.events
    world.heal()
    world.loop.advance(2.0)
    assert ("closed", 2) in a.events


def test_two_nodes_at_one_address_are_a_mistake_of_the_test() -> None:
    world = board()
    linked(world)
    with pytest.raises(AssertionError, match="memory:1 is taken"):
        Node(world, 1).network.start()
