"""What `rsqlite recover` knows and says before it does anything."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rsqlite.config import address_problems
from rsqlite.errors import DamagedFile, ForeignDirectory, RequestError
from rsqlite.node.recovery import Peer, forced, problem_of, write_peers
from rsqlite.raft.types import Configuration, Member, NodeId
from rsqlite.storage.check import stopped_node
from rsqlite.storage.directory import LOG_NAME, read_configuration
from rsqlite.storage.disk import RealDisk
from rsqlite.storage.identity import Identity, read_identity
from rsqlite.storage.recovery import examine_log


@dataclass(frozen=True, slots=True)
class Stopped:
    """A stopped node that is a member of a cluster."""

    directory: str
    identity: Identity
    configuration: Configuration
    last_index: int
    last_term: int

    @staticmethod
    def read(directory: str) -> Stopped:
        """Look at its files, under its lock. NodeFault says why that cannot be done."""
        disk = RealDisk()
        with stopped_node(directory, disk):
            identity = read_identity(directory, disk)
            image = examine_log(os.path.join(directory, LOG_NAME), disk)
            saved = read_configuration(directory, disk)
        if image.damage is not None:
            raise DamagedFile(f"{image.damage}. Choose another node to go on with")
        if identity.cluster_id is None or saved is None:
            raise ForeignDirectory(f"the node in {directory} is in no cluster yet")
        return Stopped(
            directory,
            identity,
            Configuration.from_bytes(saved.configuration),
            image.terms.last_index,
            image.terms.last_term,
        )

    @property
    def member(self) -> Member:
        """This node as the configuration has it."""
        member = self.configuration.member(NodeId(self.identity.node_id))
        if member is None:
            raise ForeignDirectory(
                f"the node in {self.directory} is no member of its cluster any more"
            )
        return member

    @property
    def own(self) -> Peer:
        """The same as an operator names it."""
        return Peer(self.member.label, self.member.raft_addr, True)

    def explain(self, left: Sequence[Peer]) -> Iterator[str]:
        """What is and what will be, line by line."""
        names = {peer.label for peer in left}
        lost = sorted({one.label for one in self.configuration.members} - names)
        yield f"Node {self.own.label!r} of cluster {self.identity.cluster_id}."
        yield f"Its log ends at entry {self.last_index} of term {self.last_term}."
        yield "The other nodes that are left should end no later: compare before you go on."
        yield "From the next start on the cluster is:"
        for peer in left:
            yield f"  {peer.label} at {peer.raft_addr}{'' if peer.is_voter else ', read-only'}"
        if lost:
            yield f"Out of it, for good: {', '.join(lost)}. They must never be started again with"
            yield "  their old directories; emptied ones may join."
            yield "Lost are all writes that only they hold, acknowledged or not. Writes that were"
            yield "  never acknowledged may turn up, if this log holds them."

    def write(self, left: Sequence[Peer]) -> str:
        """Write down who is left; the path of the file."""
        return write_peers(self.directory, list(left))


def parse_peers(given: Sequence[str], node: Stopped) -> list[Peer]:
    """`ID=ADDRESS` each; without any, the node alone. RequestError says what is wrong, of all that
    the next start would object to."""
    if not given:
        return [node.own]
    found = []
    for text in given:
        label, equals, address = text.partition("=")
        problems = address_problems(address) if label and equals else ["write ID=ADDRESS"]
        if problems:
            raise RequestError(f"--peer {text}: {problems[0]}")
        found.append(Peer(label, address, True))
    if node.own.label not in {peer.label for peer in found}:
        raise RequestError(f"the node itself, {node.own.label!r}, is not among the --peer options")
    if problem := problem_of(found):
        raise RequestError(f"what --peer says {problem}")
    # Who is given another name is known by the address, and has the vote that it had.
    learners = node.configuration.learners
    left = [
        Peer(one.label, one.raft_addr, one.node_id not in learners)
        for one in forced(node.configuration, node.member, found).members
    ]
    if problem := problem_of(left):
        raise RequestError(f"what --peer says {problem}")
    return left
