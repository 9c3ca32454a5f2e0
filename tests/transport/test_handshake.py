"""Who may talk to whom, as texts and values; the sockets are in test_listener and test_network."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rsqlite.transport.handshake import (
    Hello,
    LinkRefused,
    acceptance,
    check_acceptance,
    format_address,
    parse_address,
    refusal,
)

HELLO = Hello(cluster_id="c1", source=1, source_address="host:4002", target=2)


def headers(text: bytes) -> dict[str, str]:
    lines = text.decode("ascii").split("\r\n")[1:]
    return dict(line.split(": ", 1) for line in lines if line)


def test_a_hello_survives_its_request() -> None:
    largest = dataclasses.replace(HELLO, source=(1 << 64) - 1, source_address="[::1]:65535")
    for hello in (HELLO, largest):
        assert Hello.from_headers(headers(hello.to_request("other:1"))) == hello


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Rsqlite-Cluster", ""),
        ("Rsqlite-Cluster", "two words"),
        ("Rsqlite-Cluster", "x" * 129),
        ("Rsqlite-Cluster", "müll"),
        ("Rsqlite-Node", ""),
        ("Rsqlite-Node", "-1"),
        ("Rsqlite-Node", "1.5"),
        ("Rsqlite-Node", "٣"),
        ("Rsqlite-Node", str(1 << 64)),
        ("Rsqlite-Node", "9" * 5000),
        ("Rsqlite-Target", "x"),
        ("Rsqlite-Protocol", ""),
        ("Rsqlite-Address", "nowhere"),
        ("Rsqlite-Address", "host:70000"),
        ("Rsqlite-Address", "ho st:1"),
    ],
)
def test_a_hello_that_makes_no_sense_is_refused(name: str, value: str) -> None:
    good = headers(HELLO.to_request("other:1"))
    with pytest.raises(ValueError, match=r"Rsqlite|host:port"):
        Hello.from_headers({**good, name: value})
    missing = {key: text for key, text in good.items() if key != name}
    with pytest.raises(ValueError, match=r"Rsqlite|host:port"):
        Hello.from_headers(missing)


def status(hello: Hello, cluster_id: str | None = "c1", *, accepts: bool = False) -> int | None:
    refused = refusal(
        hello, node_id=2, cluster_id=cluster_id, accept_cluster=lambda cluster, source: accepts
    )
    return None if refused is None else refused.status


def test_a_member_of_our_cluster_that_means_us_is_let_in() -> None:
    assert status(HELLO) is None


def test_each_mistake_has_its_status() -> None:
    assert status(dataclasses.replace(HELLO, version=2)) == 426
    assert status(dataclasses.replace(HELLO, target=3)) == 421
    assert status(dataclasses.replace(HELLO, source=2)) == 409, "a copied data directory"
    assert status(dataclasses.replace(HELLO, cluster_id="c2")) == 409


def test_only_a_node_without_a_cluster_is_asked_whether_it_joins_one() -> None:
    asked: list[tuple[str, int]] = []

    def accept(cluster_id: str, source: int) -> bool:
        asked.append((cluster_id, source))
        return True

    for cluster_id in ("c1", "other", None):
        refusal(HELLO, node_id=2, cluster_id=cluster_id, accept_cluster=accept)
    assert asked == [("c1", 1)]
    assert status(HELLO, None, accepts=True) is None
    assert status(HELLO, None, accepts=False) == 409
    # The wrong node is not even asked.
    assert status(dataclasses.replace(HELLO, target=3), None, accepts=True) == 421


def test_the_dialler_checks_who_answers() -> None:
    good = {name.lower(): value for name, value in headers(acceptance(2, "c1")).items()}
    check_acceptance(HELLO, good)
    for name, value, complaint in (
        ("rsqlite-node", "3", "node 3 answers, not 2"),
        ("rsqlite-cluster", "c2", "belongs to cluster c2"),
        ("upgrade", "websocket", "not that of an rsqlite node"),
    ):
        with pytest.raises(LinkRefused, match=complaint):
            check_acceptance(HELLO, {**good, name: value})


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("localhost:4002", ("localhost", 4002)),
        ("127.0.0.1:0", ("127.0.0.1", 0)),
        ("[::1]:4002", ("::1", 4002)),
    ],
)
def test_addresses(text: str, parts: tuple[str, int]) -> None:
    assert parse_address(text) == parts
    assert format_address(*parts) == text


@pytest.mark.slow
@given(st.text())
@settings(deadline=None)
def test_any_text_is_an_address_or_a_value_error(text: str) -> None:
    try:
        _, port = parse_address(text)
    except ValueError:
        return
    assert 0 <= port <= 65_535
    assert "\n" not in text
    assert " " not in text
