"""Which host is asked next: the hosts that were given, and the leader once it is known.

Decides, and knows neither time nor sockets: the session tells it what became of each request.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

HOSTS_MAX = 64
"""Hosts kept: those that were given, and leaders that were heard of."""
FORWARDED_MAX = 100
"""Requests that go through another node before an unreachable leader is tried again."""
PAUSE_FIRST_S = 0.05
PAUSE_MAX_S = 1.0
"""Back-off between two rounds of all hosts; an election takes about a second."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Whom to ask. With `is_direct` a node that does not lead says where the leader is; else it
    passes the request on."""

    host: str
    is_direct: bool


class Routing:
    """The hosts of one connection. Hosts are `name:port`."""

    def __init__(self, hosts: Sequence[str], start: int = 0) -> None:
        assert hosts, "no hosts"
        self._hosts = list(dict.fromkeys(hosts))[:HOSTS_MAX]
        self._at = start % len(self._hosts)
        self.leader: str | None = None
        self._unreachable: str | None = None
        """The last leader to which no connection could be made. It is dead, or advertises an
        address that is good for the nodes only."""
        self._forwarded_left = 0

    def __repr__(self) -> str:
        return f"<Routing {self._hosts[self._at]} of {len(self._hosts)} leader={self.leader}>"

    @property
    def count(self) -> int:
        return len(self._hosts)

    def choose(self, *, for_leader: bool, in_trouble: bool) -> Choice:
        """Where a request goes. In trouble a node is asked to find the leader itself: it knows
        sooner than we do when there is one, and the leader may be out of our reach."""
        if for_leader and self.leader is not None:
            return Choice(self.leader, True)
        host = self._hosts[self._at]
        if not for_leader or in_trouble:
            return Choice(host, False)
        if self._forwarded_left:
            self._forwarded_left -= 1
            if not self._forwarded_left:
                self._unreachable = None
            return Choice(host, False)
        return Choice(host, True)

    def served(self, choice: Choice) -> None:
        """The answer came from this host itself: with `is_direct` it leads."""
        if choice.is_direct:
            self.leader = choice.host

    def redirected(self, host: str) -> bool:
        """A node says that `host` leads. False when that host cannot be reached, so that the node
        should be asked to pass requests on."""
        if host == self._unreachable:
            self._forwarded_left = FORWARDED_MAX
            return False
        self.leader = host
        if host not in self._hosts and len(self._hosts) < HOSTS_MAX:
            self._hosts.append(host)
        return True

    def failed(self, host: str, *, is_reachable: bool) -> None:
        """It did not serve: ask another one next."""
        if host == self.leader:
            self.leader = None
            if not is_reachable:
                self._unreachable = host
        if self._hosts[self._at] == host:
            self._at = (self._at + 1) % len(self._hosts)


def pause_before_round(number: int) -> float:
    """Seconds before the hosts are tried for the `number`-th time, from 1 on."""
    return min(PAUSE_FIRST_S * 2.0 ** min(number - 1, 16), PAUSE_MAX_S)
