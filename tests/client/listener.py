"""A server of raw bytes, for what no real node does on purpose: it drops, dawdles, and cuts off."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from types import TracebackType

HEAD_END = b"\r\n\r\n"


@contextmanager
def frozen_host() -> Iterator[str]:
    """As a paused process: connections are made, by its kernel, and nothing is ever answered."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def slow_host(body: bytes, questions: int) -> Iterator[str]:
    """Answers a POST with `body` when it was asked whether it lives so often meanwhile."""
    asked = threading.Semaphore(0)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(b"[+]node ok")
            asked.release()

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            for _ in range(questions):
                asked.acquire(timeout=10.0)
            self._answer(body)

        def _answer(self, content: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: object) -> None:
            """Nobody reads it."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def trickle(body: bytes, pieces: int, pause_s: float) -> Callable[[Visit], None]:
    """Answers with a body that comes in pieces, and nobody else meanwhile."""

    def serve(visit: Visit) -> None:
        visit.read()
        visit.sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
        for at in range(pieces):
            size = -(-len(body) // pieces)
            visit.sock.sendall(body[at * size : (at + 1) * size])
            threading.Event().wait(pause_s)

    return serve


class Visit:
    """One connection as the server sees it."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    def read(self) -> bytes:
        """A whole request; empty at the end."""
        data = b""
        while HEAD_END not in data:
            piece = self.sock.recv(65536)
            if not piece:
                return b""
            data += piece
        head, _, body = data.partition(HEAD_END)
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        while len(body) < length:
            body += self.sock.recv(65536)
        return head + HEAD_END + body

    def answer(self, body: bytes, *headers: str, status: str = "200 OK") -> None:
        lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}", "", ""]
        self.sock.sendall("\r\n".join(lines).encode() + body)

    def reset(self) -> None:
        """Close so that the other side gets a reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.sock.close()


class Listener:
    """Serves one connection after the other, each by the next of `parts`."""

    def __init__(self, *parts: Callable[[Visit], None]) -> None:
        self._parts = parts
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self.requests: list[bytes] = []
        self.done = threading.Event()
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Listener:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.done.set()
        # Wakes an accept that waits for somebody who never came.
        with closing(socket.socket()) as last:
            last.settimeout(1.0)
            last.connect_ex(("127.0.0.1", self._socket.getsockname()[1]))
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        for part in self._parts:
            sock, _ = self._socket.accept()
            if self.done.is_set():
                sock.close()
                return
            with closing(sock):
                visit = Visit(sock)
                read = visit.read

                def noting(read: Callable[[], bytes] = read) -> bytes:
                    data = read()
                    if data:
                        self.requests.append(data)
                    return data

                visit.read = noting  # type: ignore[method-assign]
                part(visit)
