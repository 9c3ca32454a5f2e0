"""One `rsqlited` process: started, asked, paused and ended; and waiting for a condition.

No process outlives its owner: whoever started it kills it, and a warden does it should the owner
die before (a test runner ended by SIGKILL or by its time limit runs no exit handler).
"""

from __future__ import annotations

import atexit
import contextlib
import enum
import http.client
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

HOST = "127.0.0.1"
POLL_S = 0.02
"""Pause between two looks at a condition that can only be asked for."""
HTTP_TIMEOUT_S = 5.0
_OBJECTS = r"""
SELECT upper(type), replace(name, '"', '""') FROM sqlite_schema
WHERE type IN ('table', 'view') AND sql NOT NULL AND name NOT LIKE 'sqlite\_%' ESCAPE '\'
  AND name NOT LIKE '\_rsqlite%' ESCAPE '\'
  AND name NOT IN (SELECT name FROM pragma_table_list WHERE type = 'shadow')
ORDER BY type = 'table', name
"""


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
        self.python = list(python)
        """What runs the module: an interpreter, and before it what is to watch over it."""
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
    def url(self) -> str:
        """What `rsqlite.connect` takes."""
        return self.http_url

    @property
    def pid(self) -> int:
        assert self.process is not None, f"{self!r} was never started"
        return self.process.pid

    def command(self) -> list[str]:
        """The whole command line of this node."""
        own = ["-node-id", self.label, "-http-addr", self.http_addr, "-raft-addr", self.raft_addr]
        return [*self.python, "-m", "rsqlite.cli.serve", *own, *self.options, str(self.directory)]

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
        self.send_signal(signal.SIGSTOP)
        self.state = NodeState.PAUSED

    def resume(self) -> None:
        """SIGCONT."""
        assert self.state is NodeState.PAUSED, f"{self!r} is not paused"
        self.send_signal(signal.SIGCONT)
        self.state = NodeState.RUNNING

    def restart(self, timeout_s: float = 30.0) -> None:
        """SIGKILL, and a new start in the same directory; returns when it is ready."""
        self.kill()
        self.start()
        self.wait_ready(timeout_s)

    def revive(self, timeout_s: float = 30.0) -> None:
        """Have it running and ready, whatever was done to it."""
        if self.state is NodeState.PAUSED:
            self.resume()
        if self.state is NodeState.DOWN:
            self.start()
        self.wait_ready(timeout_s)

    def clear(self) -> None:
        """Drop everything in the database."""
        found = self.call("POST", "/db/query?level=linearizable", [_OBJECTS])["results"][0]
        drops = [f'DROP {kind} "{name}"' for kind, name in found.get("values", [])]
        zeros = ["PRAGMA user_version=0", "PRAGMA application_id=0"]
        statements = ["PRAGMA foreign_keys=0", *drops, *zeros]
        answer = self.call("POST", "/db/execute?transaction", statements)
        if any("error" in result for result in answer["results"]):
            raise ClusterError(f"{self!r} cannot be cleared: {answer}")

    def wait_ready(self, timeout_s: float = 30.0) -> None:
        """Return when `/readyz` says that the node serves and knows a leader."""
        what = f"{self!r} to be ready"
        wait_until(self.is_ready, timeout_s, lambda: f"{what}\n{self.log_tail()}", self.check_alive)

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

    def check_alive(self) -> None:
        """ClusterError when the process has ended by itself."""
        if self.process is not None and (code := self.process.poll()) is not None:
            self.wait_exit()
            raise ClusterError(f"{self!r} ended with exit code {code}\n{self.log_tail()}")

    def send_signal(self, number: int) -> None:
        """Any other signal."""
        assert self.process is not None, f"{self!r} was never started"
        self.process.send_signal(number)

    def _end(self, number: int, timeout_s: float) -> int:
        if self.state is NodeState.DOWN:
            return self.process.returncode if self.process else 0
        self.send_signal(number)
        return self.wait_exit(timeout_s)


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
