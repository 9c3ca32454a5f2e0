"""Real `rsqlited` processes on this machine: start, kill, pause and restart nodes of a cluster.

Used by the demo, the end-to-end and conformance tests and the benchmarks, and fit for the tests
of programs that use rsqlite. Everything waits for a condition with a deadline; nothing sleeps for
a fixed time and hopes. Node `i` keeps its data in `<directory>/node-<i>` and what it prints in
`<directory>/node-<i>.log`.

No process outlives its owner: `close()` kills them, and a warden does it should the owner die
without closing (a test runner ended by SIGKILL or by its time limit runs no exit handler).
"""

from __future__ import annotations

import atexit
import contextlib
import enum
import http.client
import json
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")

HOST = "127.0.0.1"
POLL_S = 0.02
"""Pause between two looks at a condition that can only be asked for."""
HTTP_TIMEOUT_S = 5.0
PORTS_FROM = 10_000


class ClusterError(AssertionError):
    """A condition did not come true in time, or a process ended on its own. The text holds the
    end of what the node printed."""


class NodeState(enum.Enum):
    DOWN = "down"
    RUNNING = "running"
    PAUSED = "paused"


class ProcessNode:
    """One `rsqlited`, which can be started and ended any number of times in its directory."""

    def __init__(
        self,
        index: int,
        directory: Path,
        *,
        http_port: int,
        raft_port: int,
        options: Sequence[str],
        python: Sequence[str],
        environment: Mapping[str, str] | None,
    ) -> None:
        self.index = index
        self.label = str(index + 1)
        self.directory = directory / f"node-{index}"
        self.log_path = directory / f"node-{index}.log"
        self.http_port = http_port
        self.raft_port = raft_port
        self.options = list(options)
        self.state = NodeState.DOWN
        self.process: subprocess.Popen[bytes] | None = None
        self._python = list(python)
        self._environment = environment

    def __repr__(self) -> str:
        pid = self.process.pid if self.process else None
        return f"<ProcessNode {self.index} {self.state.value} http={self.http_addr} pid={pid}>"

    @property
    def http_addr(self) -> str:
        return f"{HOST}:{self.http_port}"

    @property
    def raft_addr(self) -> str:
        return f"{HOST}:{self.raft_port}"

    @property
    def http_url(self) -> str:
        return f"http://{self.http_addr}"

    @property
    def pid(self) -> int:
        assert self.process is not None, f"{self!r} was never started"
        return self.process.pid

    def command(self) -> list[str]:
        """The whole command line of this node."""
        own = ["-node-id", self.label, "-http-addr", self.http_addr, "-raft-addr", self.raft_addr]
        return [*self._python, "-m", "rsqlite.cli.serve", *own, *self.options, str(self.directory)]

    def start(self) -> None:
        """Start the process; returns at once. `wait_ready` tells when it serves."""
        assert self.state is NodeState.DOWN, f"{self!r} runs already"
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=None if self._environment is None else dict(self._environment),
            )
        _warden().watch(self.process.pid)
        self.state = NodeState.RUNNING

    def kill(self) -> None:
        """SIGKILL, as a power cut of the process; returns when it is gone. May be paused."""
        self._end(signal.SIGKILL, timeout_s=10.0)

    def terminate(self, timeout_s: float = 30.0) -> int:
        """SIGTERM, and the exit code of the clean shutdown."""
        if self.state is NodeState.PAUSED:
            self.resume()
        return self._end(signal.SIGTERM, timeout_s=timeout_s)

    def wait_exit(self, timeout_s: float = 30.0) -> int:
        """Wait until the node has ended by itself; its exit code."""
        assert self.process is not None, f"{self!r} was never started"
        try:
            code = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise ClusterError(f"{self!r} runs after {timeout_s} s\n{self.log_tail()}") from None
        _warden().forget(self.process.pid)
        self.state = NodeState.DOWN
        return code

    def pause(self) -> None:
        """SIGSTOP: the process keeps its sockets and its locks, and does nothing."""
        assert self.state is NodeState.RUNNING, f"{self!r} cannot be paused"
        self._signal(signal.SIGSTOP)
        self.state = NodeState.PAUSED

    def resume(self) -> None:
        """SIGCONT."""
        assert self.state is NodeState.PAUSED, f"{self!r} is not paused"
        self._signal(signal.SIGCONT)
        self.state = NodeState.RUNNING

    def wait_ready(self, timeout_s: float = 30.0) -> None:
        """Return when `/readyz` says that the node serves and knows a leader."""
        wait_until(self.is_ready, timeout_s, lambda: f"{self!r} to be ready", self._check)

    def is_ready(self) -> bool:
        """What `/readyz` says now; False when the node cannot be reached."""
        try:
            status, _ = self.request("GET", "/readyz")
        except (OSError, http.client.HTTPException):
            return False
        return status == 200

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        timeout_s: float = HTTP_TIMEOUT_S,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, bytes]:
        """One HTTP request on a connection of its own: status and body. `body` is sent as it is
        when it is bytes, else as JSON."""
        content = {"Content-Type": "application/json"} if body is not None else {}
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        with contextlib.closing(
            http.client.HTTPConnection(HOST, self.http_port, timeout=timeout_s)
        ) as connection:
            connection.request(method, path, data, {**content, **(headers or {})})
            answer = connection.getresponse()
            return answer.status, answer.read()

    def call(self, method: str, path: str, body: object = None, **options: Any) -> Any:
        """Like `request`, but the parsed JSON of an answer that must have status 200."""
        status, content = self.request(method, path, body, **options)
        if status != 200:
            raise ClusterError(f"{self!r}: {method} {path} answered {status}: {content!r}")
        return json.loads(content)

    def raft_status(self) -> dict[str, Any]:
        """The raft part of `/status`."""
        status: dict[str, Any] = self.call("GET", "/status")
        raft: dict[str, Any] = status["store"]["raft"]
        return raft

    def log_tail(self, lines: int = 30) -> str:
        """The end of what the node printed, with all its starts."""
        if not self.log_path.exists():
            return f"({self.log_path} is not there)"
        text = self.log_path.read_text(errors="replace").splitlines()[-lines:]
        return "\n".join([f"--- end of {self.log_path}", *text])

    def _check(self) -> None:
        if self.process is not None and (code := self.process.poll()) is not None:
            self.wait_exit()
            raise ClusterError(f"{self!r} ended with exit code {code}\n{self.log_tail()}")

    def _signal(self, number: int) -> None:
        assert self.process is not None, f"{self!r} was never started"
        self.process.send_signal(number)

    def _end(self, number: int, timeout_s: float) -> int:
        if self.state is NodeState.DOWN:
            return self.process.returncode if self.process else 0
        self._signal(number)
        return self.wait_exit(timeout_s)


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
        """Return when every running node is ready."""
        deadline = time.monotonic() + timeout_s
        for node in self.running():
            node.wait_ready(max(POLL_S, deadline - time.monotonic()))

    def running(self) -> list[ProcessNode]:
        """The nodes that are neither down nor paused."""
        return [node for node in self.nodes if node.state is NodeState.RUNNING]

    def http_url(self, index: int) -> str:
        return self.nodes[index].http_url

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
            node._signal(signal.SIGKILL)
        for node in alive:
            node.wait_exit(10.0)

    def close(self) -> None:
        """Kill what still runs. The directory stays."""
        self.kill_all()

    def _check(self) -> None:
        for node in self.running():
            node._check()


def wait_for(
    look: Callable[[], T | None],
    timeout_s: float,
    what: Callable[[], str],
    check: Callable[[], None] = lambda: None,
) -> T:
    """What `look()` gives as soon as it is not None. `check` raises when waiting is pointless."""
    deadline = time.monotonic() + timeout_s
    while (found := look()) is None:
        check()
        if time.monotonic() > deadline:
            raise ClusterError(f"waited {timeout_s:.1f} s in vain for {what()}")
        time.sleep(POLL_S)
    return found


def wait_until(
    condition: Callable[[], bool],
    timeout_s: float,
    what: Callable[[], str],
    check: Callable[[], None] = lambda: None,
) -> None:
    """Return as soon as `condition()` holds."""
    wait_for(lambda: True if condition() else None, timeout_s, what, check)


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


class _Warden:
    """A small process that reads our pids from a pipe and kills what is left when the pipe
    closes, however we end."""

    PROGRAM = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
watched = set()
for line in sys.stdin:
    (watched.add if line[0] == "+" else watched.discard)(int(line[1:]))
for pid in watched:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
"""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-c", self.PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        atexit.register(self._process.communicate)

    def watch(self, pid: int) -> None:
        self._tell(f"+{pid}\n")

    def forget(self, pid: int) -> None:
        self._tell(f"-{pid}\n")

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line)
        self._process.stdin.flush()


_the_warden: _Warden | None = None


def _warden() -> _Warden:
    global _the_warden
    if _the_warden is None:
        _the_warden = _Warden()
    return _the_warden
