"""A node without a raft address reaches nobody, and says why."""

from __future__ import annotations

from rsqlite.transport import NoNetwork, frame


async def test_no_network_says_why_nobody_is_reached() -> None:
    network = NoNetwork()
    answers: list[tuple[object, str]] = []

    def done(value: object, error: BaseException | None) -> None:
        answers.append((value, str(error)))

    network.connect({2: "host:1"})
    network.identify("host:1", done)
    network.ask("host:1", {}, done, timeout_s=1.0)
    network.fetch("host:1", "x", done, timeout_s=1.0, heard=lambda: None)
    assert answers == [(None, "this node has no raft address")] * 3
    assert not network.send(2, frame(5, b""), urgent=True)
    (link,) = network.links()
    assert (link.node_id, link.is_connected) == (2, False)
    assert link.error == "this node has no raft address"
    await network.stop()
