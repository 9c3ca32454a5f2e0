"""What `ports.Network` promises: the same scenarios on real sockets and in memory."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from rsqlite.config import Settings
from rsqlite.transport import frame

SMALL = Settings(
    raft_addr="127.0.0.1:0",
    peer_fragment_bytes=64 * 1024,
    peer_frame_bytes_max=2_000_000,
    peer_queue_bytes_max=3_200_000,
    peer_backoff_min=0.01,
)


def test_a_frame_arrives_with_its_source_kind_and_payload(play: Any) -> None:
    async def scenario(world: Any) -> None:
        a, b, _ = await world.joined(1, 2, 3)
        assert a.network.send(2, frame(5, b"beat"), urgent=True)
        assert b.network.send(1, frame(6, b""))
        await world.until(lambda: a.received and b.received)
        assert b.received == [(1, 5, b"beat")]
        assert a.received == [(2, 6, b"")]

    play(scenario)


def test_frames_of_one_class_arrive_in_order(play: Any) -> None:
    async def scenario(world: Any) -> None:
        a, b = await world.joined(1, 2)
        bulk = [b"%d" % n * (1 + n * 97 % 3000) for n in range(200)]
        bulk[50] = b"x" * 300_000
        for number, payload in enumerate(bulk):
            assert a.network.send(2, frame(33, payload), patient=number % 3 > 0)
            assert a.network.send(2, frame(5, b"%d" % number), urgent=True)
        await world.until(lambda: len(b.received) == 400)
        assert [p for _, kind, p in b.received if kind == 33] == bulk
        assert [p for _, kind, p in b.received if kind == 5] == [b"%d" % n for n in range(200)]

    play(scenario)


def test_an_urgent_frame_overtakes_a_large_one(play: Any) -> None:
    async def scenario(world: Any) -> None:
        if hasattr(world, "board"):
            world.board.weather = dataclasses.replace(world.board.weather, bytes_per_s=1e9)
        a, b = await world.joined(1, 2)
        assert a.network.send(2, frame(33, b"x" * 40_000_000))
        assert a.network.send(2, frame(5, b""), urgent=True)
        await world.until(lambda: len(b.received) == 2)
        assert [kind for _, kind, _ in b.received] == [5, 33]
        assert len(b.received[1][2]) == 40_000_000

    play(scenario)


def test_without_a_link_a_frame_is_dropped_and_said_to_be(play: Any) -> None:
    async def scenario(world: Any) -> None:
        a = await world.peer(1)
        assert not a.network.send(2, frame(5, b""))
        a.network.connect({2: "127.0.0.1:1"})
        await world.until(lambda: a.link(2).error not in ("", "not tried yet"))
        assert not a.network.send(2, frame(5, b""))
        assert a.link(2).dropped == 1
        assert a.opened == a.closed == []

    play(scenario)


def test_a_full_queue_drops_frames_but_keeps_room_for_urgent_ones(play: Any) -> None:
    async def scenario(world: Any) -> None:
        a, b = await world.joined(1, 2)
        taken = 0
        while a.network.send(2, frame(33, b"x" * 1_000_000)):
            taken += 1
            assert taken < 20, "the queue has no end"
        assert taken >= 2
        assert a.network.send(2, frame(5, b""), urgent=True)
        assert a.link(2).dropped == 1
        await world.until(lambda: len(b.received) == taken + 1)
        assert a.network.send(2, frame(33, b"again"))
        await world.until(lambda: b.received[-1] == (1, 33, b"again"))

    play(scenario, SMALL)


def test_a_frame_over_the_cap_is_dropped_and_the_link_lives(play: Any) -> None:
    async def scenario(world: Any) -> None:
        a, b = await world.joined(1, 2)
        too_long = frame(33, b"x" * world.settings.peer_frame_bytes_max)
        assert not a.network.send(2, too_long)
        assert a.network.send(2, too_long[:-1])
        await world.until(lambda: len(b.received) == 1)
        assert a.link(2).opened == 1

    play(scenario, SMALL)


def test_the_links_say_when_they_open_and_break(play: Any) -> None:
    async def scenario(world: Any) -> None:
        a, b = await world.joined(1, 2)
        await world.until(lambda: a.opened == [2] and b.opened == [1])
        await world.stop(b)
        await world.until(lambda: 2 in a.closed)
        await world.until(lambda: not a.link(2).is_heard and not a.link(2).is_connected)
        assert not a.network.send(2, frame(5, b""))
        assert b.closed == [], "who stops is told nothing more"

    play(scenario)


@pytest.mark.slow
def test_a_restarted_node_is_reached_again(play: Any) -> None:
    async def scenario(world: Any) -> None:
        a, b = await world.joined(1, 2)
        address = b.address
        await world.stop(b)
        await world.until(lambda: 2 in a.closed and not a.link(2).is_connected)
        await world.pause(0.3)
        await world.start(b, address)
        b.network.connect({1: a.address})
        await world.until(lambda: a.is_linked(2) and b.is_linked(1))
        assert a.link(2).opened == 2
        assert a.network.send(2, frame(5, b"hello"))
        await world.until(lambda: b.received == [(1, 5, b"hello")])

    play(scenario)


def test_a_node_that_nobody_named_gets_answers_on_the_link_it_dialled(play: Any) -> None:
    async def scenario(world: Any) -> None:
        a, b = await world.peer(1), await world.peer(2)
        a.network.connect({2: b.address})
        await world.until(lambda: a.opened == [2])
        b.on_receive = lambda source, kind, payload: b.network.send(source, frame(6, payload))
        large = b"x" * 500_000
        assert a.network.send(2, frame(33, large))
        await world.until(lambda: a.received == [(2, 6, large)])
        assert b.network.links() == (), "nobody told it to keep a link"
        assert b.opened == []
        a.network.connect({})
        await world.until(lambda: b.closed == [1])
        assert not b.network.send(1, frame(6, b""))

    play(scenario)


def test_connect_closes_the_links_it_does_not_name(play: Any) -> None:
    async def scenario(world: Any) -> None:
        a, b, c = await world.joined(1, 2, 3)
        for peer in (a, b):
            peer.network.connect({1: a.address, 2: b.address})
        c.network.connect({})
        await world.until(lambda: c.network.links() == ())
        await world.until(lambda: [link.node_id for link in a.network.links()] == [2])
        assert a.is_linked(2)
        assert c.closed == [], "what we close ourselves is not told"

    play(scenario)


def test_a_wrong_address_leads_to_a_refusal_that_says_so(play: Any) -> None:
    async def scenario(world: Any) -> None:
        a, b = await world.peer(1), await world.peer(2)
        a.network.connect({3: b.address})
        await world.until(lambda: a.link(3).error == "this is node 2, not 3")
        assert b.network.links() == ()
        assert a.opened == b.opened == b.closed == []

    play(scenario)


def test_another_cluster_is_refused(play: Any) -> None:
    async def scenario(world: Any) -> None:
        a, b = await world.peer(1, "ours"), await world.peer(2, "theirs")
        a.network.connect({2: b.address})
        text = "this node belongs to cluster theirs, not ours"
        await world.until(lambda: a.link(2).error == text)
        assert b.network.links() == ()

    play(scenario)


def test_a_node_keeps_no_link_to_itself(play: Any) -> None:
    async def scenario(world: Any) -> None:
        a, b = await world.peer(1), await world.peer(2)
        a.network.connect({1: a.address, 2: b.address})
        await world.until(lambda: a.opened == [2])
        assert [link.node_id for link in a.network.links()] == [2]
        assert not a.network.send(1, frame(5, b""))

    play(scenario)


def test_a_node_without_a_cluster_dials_nobody_and_is_adopted_once(play: Any) -> None:
    async def scenario(world: Any) -> None:
        a = await world.peer(1, "first")
        b = await world.peer(2, None, takes_clusters=True)
        c = await world.peer(3, "second")
        b.network.connect({1: a.address})
        await world.until(lambda: b.link(1).error == "this node belongs to no cluster yet")
        a.network.connect({2: b.address})
        await world.until(lambda: a.is_linked(2) and b.is_linked(1))
        assert b.cluster == "first"
        c.network.connect({2: b.address})
        await world.until(lambda: "belongs to cluster first" in c.link(2).error)
        assert b.cluster == "first"

    play(scenario)


def test_a_node_that_does_not_want_to_join_refuses(play: Any) -> None:
    async def scenario(world: Any) -> None:
        a, b = await world.peer(1, "first"), await world.peer(2, None)
        a.network.connect({2: b.address})
        await world.until(lambda: "does not join" in a.link(2).error)
        assert b.cluster is None

    play(scenario)


def test_anybody_is_told_who_a_node_is(play: Any) -> None:
    async def scenario(world: Any) -> None:
        a, b = await world.peer(1, None), await world.peer((1 << 64) - 1, None)
        answers: list[Any] = []
        a.network.identify(b.address, lambda value, error: answers.append((value, error)))
        await world.until(lambda: bool(answers))
        assert answers == [({"node_id": (1 << 64) - 1, "cluster_id": None}, None)]
        await world.stop(b)
        a.network.identify(b.address, lambda value, error: answers.append((value, error)))
        await world.until(lambda: len(answers) == 2)
        assert answers[1][0] is None
        assert isinstance(answers[1][1], OSError)

    play(scenario)


def test_anybody_may_ask_and_is_answered_in_time_or_told_why_not(play: Any) -> None:
    async def scenario(world: Any) -> None:
        a, b = await world.peer(1, None), await world.peer(2, None)
        answers: list[Any] = []

        def asks(address: str) -> None:
            a.network.ask(
                address,
                {"wish": [1, "ä" * 1000, (1 << 64) - 1]},
                lambda value, error: answers.append((value, error)),
                timeout_s=0.5,
            )

        asks(b.address)
        await world.until(lambda: bool(answers))
        assert answers == [({"node": 2, "wish": [1, "ä" * 1000, (1 << 64) - 1]}, None)]
        b.network_asked = lambda question, answer: None
        asks(b.address)
        await world.until(lambda: len(answers) == 2)
        assert isinstance(answers[1][1], TimeoutError)
        await world.stop(b)
        asks(b.address)
        await world.until(lambda: len(answers) == 3)
        assert isinstance(answers[2][1], OSError)

    play(scenario)


def test_parts_of_an_image_are_fetched_whole_or_not_at_all(play: Any) -> None:
    async def scenario(world: Any) -> None:
        a, b = await world.joined(1, 2)
        b.parts = {"x/0": bytes(range(256)) * 4096, "x/1": b""}
        answers: list[Any] = []
        heard: list[str] = []

        def fetch(name: str) -> None:
            a.network.fetch(
                b.address,
                name,
                lambda part, error: answers.append((part, error)),
                timeout_s=5.0,
                heard=lambda: heard.append(name),
            )

        for name in ("x/0", "x/1", "x/2"):
            fetch(name)
            await world.until(lambda: len(answers) > int(name[-1]))  # noqa: B023 - at once
        assert answers[0] == (b.parts["x/0"], None)
        assert answers[1] == (b"", None)
        assert answers[2][0] is None
        assert isinstance(answers[2][1], LookupError)
        await world.stop(b)
        fetch("x/0")
        await world.until(lambda: len(answers) == 4)
        assert isinstance(answers[3][1], OSError)

    play(scenario)


def test_who_sends_what_is_no_message_loses_that_link_only(play: Any) -> None:
    async def scenario(world: Any) -> None:
        a, b, c = await world.joined(1, 2, 3)
        b.refuses.add(77)
        assert a.network.send(2, frame(77, b""))
        await world.until(lambda: 1 in b.closed and 2 in a.closed)
        await world.until(lambda: a.is_linked(2))
        assert b.received == []
        assert a.network.send(2, frame(5, b""))
        await world.until(lambda: b.received == [(1, 5, b"")])
        assert c.closed == []

    play(scenario)


def test_sending_from_within_receive_is_fine(play: Any) -> None:
    async def scenario(world: Any) -> None:
        a, b = await world.joined(1, 2)
        b.on_receive = lambda source, kind, payload: b.network.send(source, frame(6, payload))
        for number in range(100):
            assert a.network.send(2, frame(5, b"%d" % number))
        await world.until(lambda: len(a.received) == 100)
        assert a.received == [(2, 6, b"%d" % number) for number in range(100)]

    play(scenario)


def test_dropping_the_peer_from_within_receive_delivers_nothing_more(play: Any) -> None:
    async def scenario(world: Any) -> None:
        a, b = await world.peer(1), await world.peer(2)
        a.network.connect({2: b.address})
        await world.until(lambda: a.opened == [2])
        a.on_receive = lambda source, kind, payload: a.network.connect({})
        for _ in range(10):
            assert b.network.send(1, frame(5, b""))
        await world.until(lambda: b.closed == [1])
        assert a.received == [(2, 5, b"")]
        assert a.network.links() == ()
        assert a.closed == []

    play(scenario)
