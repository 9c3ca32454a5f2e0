"""System calls of a running process that fail or are late, by `strace`, which also writes down what
it does afterwards. Needs root, or ptrace to be allowed."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

from rsqlite.testing.cluster import ProcessNode, wait_until

ATTACH_S = 10.0
SYNCS = ("fdatasync", "fsync", "io_submit")
_CALL = re.compile(r"^\d+ +(\w+)\((.*)$")
_FILE = re.compile(r"\d+<([^>]*)>")


class Injection:
    """While it is attached, `calls` of the node that touch one of `paths` (any, if none is given)
    get what `action` says: `error=EIO:when=1`, `delay_enter=2000000`. All syncs are traced."""

    def __init__(
        self,
        node: ProcessNode,
        trace: Path,
        calls: Sequence[str],
        action: str,
        paths: Sequence[Path] = (),
    ) -> None:
        self._pid = node.pid
        self.trace = trace
        seen = sorted({*calls, *SYNCS})
        self._command = [
            *("strace", "-f", "-y", "-p", str(self._pid), "-o", str(trace)),
            *("-e", f"trace={','.join(seen)}", "-e", "signal=none"),
            *("-e", f"inject={','.join(calls)}:{action}"),
            *(part for path in paths for part in ("-P", str(path))),
        ]
        self._process: subprocess.Popen[str] | None = None
        self._said: list[str] = []

    def attach(self) -> None:
        """Return when the process is traced."""
        self._process = subprocess.Popen(
            self._command, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True
        )
        threading.Thread(target=self._listen, args=(self._process,), daemon=True).start()
        wait_until(
            lambda: any("attached" in line for line in self._said),
            ATTACH_S,
            lambda: f"strace to attach: {self._said}",
        )

    def detach(self) -> None:
        """Let the process go on as before, if it still runs."""
        if self._process is not None:
            if self._process.poll() is None:
                self._process.send_signal(signal.SIGINT)
            self._process.wait(ATTACH_S)
            self._process = None

    def _listen(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        with process.stderr:
            self._said.extend(process.stderr)

    def injected(self) -> list[str]:
        """The calls that were changed, as strace writes them."""
        return [line for line in self._lines() if "(INJECTED)" in line or "(DELAYED)" in line]

    def syncs_after_failure(self) -> list[str]:
        """Syncs of a file whose write or sync had failed: there must be none, for the kernel may
        call pages clean that it has lost."""
        failed: set[str] = set()
        found = []
        for line in self._lines():
            match = _CALL.match(line)
            if match is None:
                continue
            call, rest = match.groups()
            files = set(_FILE.findall(rest))
            if call in SYNCS and files & failed:
                found.append(line)
            if "(INJECTED)" in line and " = -1 " in line and not call.startswith("pread"):
                failed |= files
        return found

    def _lines(self) -> list[str]:
        return self.trace.read_text(errors="replace").splitlines()


def why_unavailable() -> str:
    """Why nothing can be injected here; empty when it can."""
    if shutil.which("strace") is None:
        return "strace not found"
    done = subprocess.run(
        ["strace", "-o", "/dev/null", "-e", "inject=getpid:error=EIO", "true"],
        capture_output=True,
        text=True,
        check=False,
    )
    return "" if done.returncode == 0 else f"strace cannot trace: {done.stderr.strip()}"
