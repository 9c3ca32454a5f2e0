"""Voters, learners, joint changes, and the history of configurations in the log.

A configuration counts from the moment its entry is appended, committed or not (thesis 4.1), and
stops counting when that entry is truncated. So the whole stack of those not yet committed is kept:
a roll-back of one level breaks when two are truncated at once (raft.md rule 25).
"""

from __future__ import annotations

from dataclasses import replace

from rsqlite.raft.types import Configuration, Index, Member, NodeId, require


def is_voter(configuration: Configuration, node_id: NodeId) -> bool:
    """Whether this node's vote counts in either half."""
    return node_id in configuration.voters or node_id in configuration.outgoing


def replicas(configuration: Configuration) -> frozenset[NodeId]:
    """Everybody who is sent the log."""
    return configuration.voters | configuration.outgoing | configuration.learners


def check_target(configuration: Configuration) -> None:
    """ValueError unless a cluster could settle on this: the proposer's mistake, said in words."""
    if configuration.outgoing:
        raise ValueError("propose the configuration to end in; the joint form is made here")
    if not configuration.voters:
        raise ValueError("a configuration needs at least one voter")
    both = configuration.voters & configuration.learners
    if both:
        raise ValueError(f"voters and learners at the same time: {sorted(both)}")
    named = {member.node_id for member in configuration.members}
    unnamed = replicas(configuration) - named
    if unnamed:
        raise ValueError(f"no address for {sorted(unnamed)}")


def enter_joint(current: Configuration, target: Configuration) -> Configuration:
    """What to append first on the way to `target`: C_old,new, or `target` itself if no vote moves.

    A voter that becomes a learner is in `outgoing` and `learners` of the joint form; its vote
    counts until the joint form is left (etcd's "learners next").
    """
    if target.voters == current.voters:
        return target
    members: dict[NodeId, Member] = {member.node_id: member for member in current.members}
    members.update((member.node_id, member) for member in target.members)
    kept = replicas(target) | current.voters
    named = tuple(members[node_id] for node_id in sorted(kept) if node_id in members)
    return replace(target, members=named, outgoing=current.voters)


def leave_joint(joint: Configuration) -> Configuration:
    """C_new: what follows once C_old,new is committed. Leaving twice changes nothing."""
    if not joint.outgoing:
        return joint
    kept = joint.voters | joint.learners
    named = tuple(member for member in joint.members if member.node_id in kept)
    return replace(joint, members=named, outgoing=frozenset())


class ConfigurationHistory:
    """The configuration in force, and those it would fall back to if the log were truncated."""

    def __init__(self, configuration: Configuration, index: Index) -> None:
        self._stack: list[tuple[Index, Configuration]] = [(index, configuration)]

    def __repr__(self) -> str:
        return f"<ConfigurationHistory {[index for index, _ in self._stack]}>"

    @property
    def current(self) -> Configuration:
        return self._stack[-1][1]

    @property
    def index(self) -> Index:
        """Where the configuration in force stands in the log."""
        return self._stack[-1][0]

    @property
    def committed(self) -> Configuration:
        """The oldest one kept: what the log below every possible truncation says."""
        return self._stack[0][1]

    @property
    def committed_index(self) -> Index:
        """Where that one stands."""
        return self._stack[0][0]

    def is_voter_in_any(self, node_id: NodeId) -> bool:
        """Whether this node votes in the configuration in force, or in one before it that is not
        certain to be over."""
        return any(is_voter(configuration, node_id) for _, configuration in self._stack)

    @property
    def fingerprints(self) -> frozenset[str]:
        """Those that one of the configurations kept lets in; none: any. One that is not known to be
        committed counts: after a power loss nobody knows that of any, and somebody has to lead."""
        found = [configuration.fingerprints for _, configuration in self._stack]
        return frozenset().union(*found) if all(found) else frozenset()

    def accepts(self, node_id: NodeId, fingerprint: str) -> bool:
        """Whether a member that computes SQL so may take part: vote, lead, apply, serve. One that
        is alone has nobody to agree with."""
        known = self.fingerprints
        return not known or fingerprint in known or self.current.is_alone(node_id)

    def appended(self, index: Index, configuration: Configuration) -> None:
        """An entry with this configuration was appended; it is in force from now on."""
        require(index > self.index, "configuration at {} after that at {}", index, self.index)
        self._stack.append((index, configuration))

    def truncated(self, first_removed: Index) -> bool:
        """The log was cut from `first_removed` on. Returns whether another one is in force now."""
        depth = len(self._stack)
        while len(self._stack) > 1 and self._stack[-1][0] >= first_removed:
            self._stack.pop()
        require(
            self._stack[-1][0] < first_removed,
            "the committed configuration at {} was truncated",
            self._stack[-1][0],
        )
        return len(self._stack) < depth

    def committed_to(self, index: Index) -> None:
        """Nothing at or below `index` can be truncated any more; forget what came before."""
        while len(self._stack) > 1 and self._stack[1][0] <= index:
            del self._stack[0]
