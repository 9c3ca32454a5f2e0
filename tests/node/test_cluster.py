"""Forming a cluster: who begins, and who waits to be invited."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from rsqlite.config import Settings
from rsqlite.node.cluster import Discovery, first_configuration, founders, join_addresses
from rsqlite.ports import Done
from rsqlite.raft.types import Configuration, Member, NodeId
from rsqlite.testing.loop import ManualLoop


def member(number: int) -> Member:
    return Member(NodeId(number), f"n{number}", f"host{number}:4002", f"host{number}:4001")


def found(*numbers: int) -> dict[NodeId, Member]:
    return {NodeId(number): member(number) for number in numbers}


def test_the_lowest_id_begins_once_there_are_enough() -> None:
    assert founders(member(1), found(2, 3), 3) == [member(1), member(2), member(3)]


@pytest.mark.parametrize("others", [(), (2,)])
def test_nobody_begins_with_too_few(others: tuple[int, ...]) -> None:
    assert founders(member(1), found(*others), 3) is None


def test_a_higher_id_waits_to_be_invited() -> None:
    assert founders(member(2), found(1, 3), 3) is None


def test_more_than_expected_still_gives_one_beginner_and_the_lowest_ids() -> None:
    assert founders(member(1), found(2, 3, 4), 3) == [member(1), member(2), member(3)]
    assert founders(member(2), found(1, 3, 4), 3) is None


def test_the_first_configuration_survives_its_encoding() -> None:
    configuration = first_configuration(
        [member(3), member(1)], fingerprint="f", cluster_id="c" * 32
    )
    assert configuration.voters == {1, 3}
    assert Configuration.from_bytes(configuration.to_bytes()) == configuration


def test_join_addresses_are_trimmed_and_said_once() -> None:
    assert join_addresses(Settings(join=" a:1, b:2,a:1,")) == ["a:1", "b:2"]


class Answers:
    """A network on which every address has a fixed identity, or none."""

    def __init__(self, identities: Mapping[str, Mapping[str, Any]]) -> None:
        self.identities = dict(identities)

    def identify(self, address: str, done: Done[Mapping[str, object]]) -> None:
        identity = self.identities.get(address)
        if identity is None:
            done(None, ConnectionRefusedError("refused"))
        else:
            done(identity, None)

    def connect(self, addresses: Mapping[int, str]) -> None: ...

    def send(
        self, target: int, frame: bytes, *, urgent: bool = False, patient: bool = False
    ) -> bool:
        return False


def identity(number: int, **changes: object) -> dict[str, object]:
    basis = {"cluster_id": None, "fingerprint": "f", "members": {}}
    return {**member(number)._asdict(), **basis, **changes}


def in_cluster(number: int, *members: int) -> dict[str, object]:
    addresses = {str(one): member(one).raft_addr for one in members}
    return identity(number, cluster_id="x", members=addresses)


class Look:
    """A discovery on virtual time, and what came of it."""

    def __init__(self, own: int, identities: Mapping[str, Mapping[str, Any]]) -> None:
        self.loop = ManualLoop()
        self.network = Answers(identities)
        self.begun: list[Member] = []
        self.failures: list[BaseException] = []
        self.joins: list[bool] = []
        settings = Settings(bootstrap_expect=3, join="a:1,b:2,c:3", bootstrap_expect_timeout=5.0)
        self.discovery = Discovery(
            own=member(own),
            fingerprint="f",
            settings=settings,
            network=self.network,
            loop=self.loop,
            begin=self.begun.extend,
            join=lambda: self.joins.append(True),
            failed=self.failures.append,
        )
        self.discovery.start()


def test_discovery_asks_until_all_have_started() -> None:
    look = Look(1, {"a:1": identity(1), "b:2": identity(2)})
    look.loop.advance(1.0)
    assert look.begun == []
    look.network.identities["c:3"] = identity(3)
    look.loop.advance(1.0)
    assert look.begun == [member(1), member(2), member(3)]


def test_a_node_that_has_a_cluster_already_does_not_count() -> None:
    look = Look(1, {"b:2": identity(2), "c:3": identity(3, cluster_id="x")})
    look.loop.advance(2.0)
    assert look.begun == []


@pytest.mark.parametrize("members", [(2, 3, 9), (2, 3, 4)], ids=["wiped", "never one"])
def test_a_node_that_a_running_cluster_does_not_count_on_asks_to_join(
    members: tuple[int, ...],
) -> None:
    look = Look(1, {"b:2": in_cluster(2, *members)})
    look.loop.advance(1.0)
    assert (look.joins, look.begun, look.failures) == ([True], [], [])


@pytest.mark.parametrize("members", [(), (1, 2, 3)], ids=["not known yet", "it is one"])
def test_a_founder_waits_for_its_invitation(members: tuple[int, ...]) -> None:
    look = Look(1, {"b:2": in_cluster(2, *members), "c:3": in_cluster(3, *members)})
    look.loop.advance(4.0)
    assert look.failures == []


def test_of_two_new_clusters_the_one_that_counts_on_a_node_is_waited_for() -> None:
    look = Look(1, {"b:2": in_cluster(2, 2, 3, 4), "c:3": in_cluster(3, 1, 3, 5)})
    look.loop.advance(4.0)
    assert look.failures == []


def test_discovery_names_the_addresses_when_its_time_is_over() -> None:
    look = Look(1, {"b:2": identity(2)})
    look.loop.advance(6.0)
    assert "found 2 of 3 nodes" in str(look.failures[0])
    assert "a:1,b:2,c:3" in str(look.failures[0])
    assert "c:3 did not tell: refused" in str(look.failures[0])


def test_founders_that_compute_differently_refuse_each_other() -> None:
    look = Look(1, {"b:2": identity(2, fingerprint="other")})
    look.loop.advance(1.0)
    assert "computes SQL differently" in str(look.failures[0])
    assert look.begun == []


@pytest.mark.parametrize("twin", ["n1", "n2"], ids=["own", "another's"])
@pytest.mark.parametrize("of", ["label", "raft_addr"])
def test_founders_of_one_name_or_address_refuse_each_other(twin: str, of: str) -> None:
    value = twin if of == "label" else f"host{twin[1:]}:4002"
    look = Look(1, {"b:2": identity(2), "c:3": identity(3, **{of: value})})
    look.loop.advance(1.0)
    assert look.begun == []
    assert value in str(look.failures[0])
    assert "of its own" in str(look.failures[0])


def test_a_founder_that_begins_anew_is_not_taken_for_its_own_twin() -> None:
    look = Look(1, {"b:2": identity(2)})
    look.loop.advance(1.0)
    look.network.identities["b:2"] = identity(4, label="n2", raft_addr="host2:4002")
    look.loop.advance(1.0)
    look.network.identities["c:3"] = identity(3)
    look.loop.advance(1.0)
    assert look.failures == []
    assert [one.node_id for one in look.begun] == [1, 3, 4]


def test_an_answer_that_is_no_identity_is_no_founder() -> None:
    look = Look(1, {"b:2": {"hello": 1}, "c:3": identity(3, node_id="x")})
    look.loop.advance(1.0)
    assert look.begun == []
    assert look.failures == []
