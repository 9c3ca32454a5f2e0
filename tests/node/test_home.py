"""Two processes that are one node, because a directory was copied."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from rsqlite.errors import ForeignDirectory
from rsqlite.testing.engines import EngineCluster
from tests.node.test_images import formed


@pytest.fixture
def three(tmp_path: Path) -> Iterator[EngineCluster]:
    yield from formed(tmp_path)


def copied(cluster: EngineCluster) -> tuple[int, int]:
    """A follower is stopped and its directory copied, for one more node; the numbers of both."""
    number, copy = cluster.number(cluster.followers()[0]), len(cluster.addresses)
    cluster.kill(number)
    shutil.copytree(cluster.directory / f"node{number}", cluster.directory / f"node{copy}")
    cluster.addresses.append(f"node{copy}:4002")
    cluster.engines.append(None)
    cluster.networks.append(None)
    cluster.own_settings[copy] = {"node_id": f"n{number}"}
    return number, copy


def test_a_copy_beside_its_original_ends_before_the_others_take_it_for_that(
    three: EngineCluster,
) -> None:
    number, copy = copied(three)
    three.start_node(number)
    three.until(lambda: all(one.is_synced for one in three.running()))
    three.start_node(copy)
    three.until(lambda: bool(three.faults))
    ((at, fault),) = three.faults
    assert (at, type(fault)) == (copy, ForeignDirectory)
    for word in ("runs at", three.addresses[number], "copied", "-join"):
        assert word in str(fault)
    known = {one.raft_addr for one in three.leader().members}
    assert known == {f"node{one}:4002" for one in range(3)}


def test_an_original_that_comes_back_beside_its_copy_ends(three: EngineCluster) -> None:
    """The copy was taken for the node, moved; which one is to go on only people can say."""
    number, copy = copied(three)
    moved = three.start_node(copy)
    three.until(lambda: moved.own_member() in three.leader().members)
    three.start_node(number)
    three.until(lambda: bool(three.faults))
    assert [(at, type(fault)) for at, fault in three.faults] == [(number, ForeignDirectory)]
    three.execute(three.leader(), "INSERT INTO t(v) VALUES('b')")
