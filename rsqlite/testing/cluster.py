"""Real `rsqlited` processes on this machine: start, kill, pause and restart nodes of a cluster.

Used by the demo, the end-to-end and conformance tests and the benchmarks, and fit for the tests
of programs that use rsqlite. Everything waits for a condition with a deadline; nothing sleeps for
a fixed time and hopes. Node `i` keeps its data in `<directory>/node-<i>` and what it prints in
`<directory>/node-<i>.log`.
"""

from __future__ import annotations

import contextlib
import http.client
import random
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rsqlite.testing.process import (
    HOST,
    ClusterError,
    NodeState,
    ProcessNode,
    wait_for,
    wait_until,
)

PORTS_FROM = 10_000

__all__ = [
    "ClusterError",
    "NodeState",
    "ProcessCluster",
    "ProcessNode",
    "free_ports",
    "wait_for",
    "wait_until",
]


class ProcessCluster:
    """`count` nodes that form one cluster when started. Also a context manager: starts, waits
    until all are ready, and closes."""

    def __init__(
        self,
        count: int,
        directory: str | Path,
        options: Sequence[str] = (),
        *,
        python: Sequence[str] = (sys.executable,),
        environment: Mapping[str, str] | None = None,
        http_ports: Sequence[int] = (),
    ) -> None:
        """`options` are flags for every node; `environment` replaces that of this process;
        `http_ports` are given to the first nodes, the others get free ones."""
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        chosen = free_ports(2 * count - len(http_ports))
        https = [*http_ports, *chosen[: count - len(http_ports)]]
        rafts = chosen[count - len(http_ports) :]
        together: list[str] = []
        if count > 1:
            others = ",".join(f"{HOST}:{port}" for port in rafts)
            together = ["-bootstrap-expect", str(count), "-join", others]
        self.nodes = [
            ProcessNode(
                index,
                self.directory,
                http_port=https[index],
                raft_port=rafts[index],
                options=[*together, *options],
                python=python,
                environment=environment,
            )
            for index in range(count)
        ]

        self._python, self._environment = python, environment
        self._options = list(options)

    def grow(self, *options: str) -> ProcessNode:
        """Start one more node, which asks the running ones to join; it is not waited for."""
        join = ",".join(node.raft_addr for node in self.running())
        http_port, raft_port = free_ports(2)
        node = ProcessNode(
            len(self.nodes),
            self.directory,
            http_port=http_port,
            raft_port=raft_port,
            options=["-join", join, *self._options, *options],
            python=self._python,
            environment=self._environment,
        )
        self.nodes.append(node)
        node.start()
        return node

    def __repr__(self) -> str:
        return f"<ProcessCluster {[node.state.value for node in self.nodes]}>"

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def start(self, timeout_s: float = 30.0) -> None:
        """Start every node that is down, and return when all are ready."""
        for node in self.nodes:
            if node.state is NodeState.DOWN:
                node.start()
        self.wait_ready(timeout_s)

    def wait_ready(self, timeout_s: float = 30.0) -> None:
        """Return when every running node is ready; at once with an error when one has ended."""
        waiting = self.running()

        def look() -> bool:
            waiting[:] = [node for node in waiting if not node.is_ready()]
            return not waiting

        def what() -> str:
            return "\n".join(f"{node!r} to be ready\n{node.log_tail()}" for node in waiting)

        wait_until(look, timeout_s, what, self._check)

    def running(self) -> list[ProcessNode]:
        """The nodes that are neither down nor paused."""
        return [node for node in self.nodes if node.state is NodeState.RUNNING]

    def http_url(self, index: int) -> str:
        return self.nodes[index].http_url

    @property
    def url(self) -> str:
        """All nodes, as `rsqlite.connect` takes them."""
        return "http://" + ",".join(node.http_addr for node in self.nodes)

    def leader(self, timeout_s: float = 30.0) -> int:
        """The position in `nodes` of the running node that leads, waited for. Of several that
        believe it (one of them was cut off or paused), the one with the highest term."""

        def look() -> int | None:
            views = {node.index: _raft_status_or_none(node) for node in self.running()}
            claims = [
                (int(view["term"]), index)
                for index, view in views.items()
                if view is not None and str(view["state"]).lower() == "leader"
            ]
            return max(claims)[1] if claims else None

        return wait_for(look, timeout_s, lambda: f"a leader of {self!r}", self._check)

    def followers(self, timeout_s: float = 30.0) -> list[int]:
        """The positions of the running nodes that do not lead."""
        leader = self.leader(timeout_s)
        return [node.index for node in self.running() if node.index != leader]

    def wait_applied(self, index: int | None = None, timeout_s: float = 30.0) -> int:
        """Return when every running node has applied `index`, by default the highest index that
        one of them has committed when asked; that index."""
        running = self.running()
        if index is None:
            index = max(int(node.raft_status()["commit_index"]) for node in running)
        target = index

        def behind() -> list[str]:
            views = {node.index: _raft_status_or_none(node) for node in running}
            return [
                f"node {at}: {view['applied_index'] if view else 'no answer'}"
                for at, view in views.items()
                if view is None or int(view["applied_index"]) < target
            ]

        wait_until(lambda: not behind(), timeout_s, lambda: f"index {target}: {behind()}")
        return target

    def kill_all(self) -> None:
        """SIGKILL to all before any is waited for: the whole cluster loses power at once."""
        alive = [node for node in self.nodes if node.state is not NodeState.DOWN]
        for node in alive:
            node.send_signal(signal.SIGKILL)
        for node in alive:
            node.wait_exit(10.0)

    def close(self) -> None:
        """Kill what still runs. The directory stays."""
        self.kill_all()

    def _check(self) -> None:
        for node in self.running():
            node.check_alive()


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on, below those that the system hands out to outgoing
    connections: a node that is down would lose such a port to any client, and a peer that dials
    it can even reach itself."""
    ceiling = _ephemeral_ports_start()
    found: list[int] = []
    with contextlib.ExitStack() as held:
        while len(found) < count:
            port = random.randrange(PORTS_FROM, ceiling) if ceiling > PORTS_FROM else 0
            listener = held.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                listener.bind((HOST, port))
                found.append(listener.getsockname()[1])
    return found


def _ephemeral_ports_start() -> int:
    """The first port that Linux gives to outgoing connections; 0 (bind and see) elsewhere."""
    try:
        text = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text()
    except OSError:
        return 0
    return int(text.split()[0])


def _raft_status_or_none(node: ProcessNode) -> dict[str, Any] | None:
    try:
        return node.raft_status()
    except (OSError, http.client.HTTPException, ClusterError, KeyError):
        return None
