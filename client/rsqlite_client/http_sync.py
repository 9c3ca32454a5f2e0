"""The blocking shell: carries out what a `Session` asks for, over http.client.

One connection is kept open to each host that is in use. A connection that the other side has closed
meanwhile is noticed before anything is sent, so that a node that was restarted does not make a
write ambiguous.
"""

from __future__ import annotations

import http.client
import select
import socket
import time

from rsqlite_client.proto import Command, Result
from rsqlite_client.session import (
    LIFE_S,
    LIFE_TARGET,
    SILENCE_S,
    Answer,
    Event,
    Lost,
    Pause,
    Send,
    Session,
)

CONNECT_TIMEOUT_S = 2.0
CONNECTIONS_MAX = 4
"""Kept open; the leader, and some of those that were asked before."""
ANSWER_BYTES_MAX = 1 << 30
"""A longer answer is not taken: no server with default settings gives one."""
_FAILURES = (OSError, http.client.HTTPException)


class HttpChannel:
    """What a blocking connection runs its commands on."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._connections: dict[str, http.client.HTTPConnection] = {}

    def __repr__(self) -> str:
        return f"<HttpChannel {self.session!r}>"

    def run(self, command: Command) -> Result:
        """Carry out one command; raises what it ends with."""
        steps = self.session.run(command, time.monotonic())
        step = next(steps)
        while True:
            event: Event
            if isinstance(step, Send):
                event = self._send(step)
            else:
                assert isinstance(step, Pause)
                time.sleep(step.seconds)
                event = time.monotonic()
            try:
                step = steps.send(event)
            except StopIteration as stop:
                result: Result = stop.value
                return result

    def close(self) -> None:
        """Close all connections."""
        connections, self._connections = self._connections, {}
        for connection in connections.values():
            connection.close()

    def _send(self, send: Send) -> Answer | Lost:
        host = send.host
        connection = self._connections.pop(host, None)
        is_sent = is_reachable = False
        try:
            if connection is not None and _is_stale(connection):
                connection.close()
                connection = None
            if connection is None:
                connection = self._open(host, send.patience_s)
            is_reachable = True
            assert connection.sock is not None
            connection.sock.settimeout(send.patience_s)
            # In one piece: when this raises, the server cannot have all of it.
            connection.sock.sendall(head_of(send) + send.body)
            is_sent = True
            if send.is_harmless:
                _wait(connection.sock, send)
            response = connection.response_class(connection.sock, method="POST")
            response.begin()
            body = response.read(ANSWER_BYTES_MAX)
            if not response.isclosed():
                raise http.client.HTTPException("the answer is too long")
        except BaseException as error:
            # An interrupt as well leaves the connection with half an exchange on it.
            if connection is not None:
                connection.close()
            if isinstance(error, _FAILURES):
                reason = _reason_of(error)
                return Lost(reason, is_sent, is_reachable, time.monotonic())
            raise
        if response.will_close:
            connection.close()
        else:
            self._keep(host, connection)
        return Answer(response.status, response.headers.get, body, time.monotonic())

    def _open(self, host: str, patience_s: float) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection(host, timeout=min(CONNECT_TIMEOUT_S, patience_s))
        connection.connect()
        return connection

    def _keep(self, host: str, connection: http.client.HTTPConnection) -> None:
        self._connections[host] = connection
        if len(self._connections) > CONNECTIONS_MAX:
            oldest = next(iter(self._connections))
            self._connections.pop(oldest).close()


def _wait(sock: socket.socket, send: Send) -> None:
    """Return when some of the answer is there. TimeoutError when it does not come in time, or when
    the host does not live."""
    deadline = time.monotonic() + send.patience_s
    while (left_s := deadline - time.monotonic()) > 0:
        if _has_data(sock, min(SILENCE_S, left_s)):
            return
        if not _lives(send.host):
            raise TimeoutError
    raise TimeoutError


def _lives(host: str) -> bool:
    """Does a node answer anything at all?"""
    connection = http.client.HTTPConnection(host, timeout=LIFE_S)
    try:
        connection.request("GET", LIFE_TARGET)
        connection.getresponse()
    except _FAILURES:
        return False
    finally:
        connection.close()
    return True


def head_of(send: Send) -> bytes:
    """The head of the request; the same bytes for each body of one length."""
    return (
        f"POST {send.target} HTTP/1.1\r\nHost: {send.host}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(send.body)}\r\n\r\n"
    ).encode("ascii")


def _is_stale(connection: http.client.HTTPConnection) -> bool:
    """Has the other side closed it? Nothing else can have come: no answer is due."""
    sock = connection.sock
    if sock is None:
        return True
    return _has_data(sock, 0.0)


def _has_data(sock: socket.socket, timeout_s: float) -> bool:
    """Can something be read, or has the other side closed it?"""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(timeout_s * 1000))


def _reason_of(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(error) or type(error).__name__
