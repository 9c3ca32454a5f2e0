"""How two nodes agree to talk: one HTTP/1.1 exchange, before the first frame.

The dialler says which protocol, cluster and node it is and whom it means to reach; the listener
answers 101, or a status and a sentence that says why not. Both sides check the other: addresses
get reused, directories get copied.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, cast

from rsqlite.config import ADDRESS_LENGTH_MAX, PEER_HANDSHAKE_BYTES_MAX, is_token

PROTOCOL_VERSION: Final = 1
UPGRADE: Final = "rsqlite-raft"
LINK_PATH: Final = "/raft/v1/link"
IDENTITY_PATH: Final = "/raft/v1/identity"
ASK_PATH: Final = "/raft/v1/ask"
IMAGE_PATH: Final = "/raft/v1/image/"

_CLUSTER_LENGTH_MAX = 128
_REASON_LENGTH_MAX = 300


class LinkRefused(Exception):
    """The other side, or our check of it, says no; the text is for people."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a link is not granted: an HTTP status and a sentence."""

    status: int
    reason: str


@dataclass(frozen=True, slots=True)
class Hello:
    """What a dialler says about itself and about whom it wants."""

    cluster_id: str
    source: int
    source_address: str
    target: int
    version: int = PROTOCOL_VERSION

    def to_request(self, address: str) -> bytes:
        """The bytes that ask the node at `address` for a link."""
        return (
            f"GET {LINK_PATH} HTTP/1.1\r\nHost: {address}\r\n"
            f"Connection: Upgrade\r\nUpgrade: {UPGRADE}\r\n"
            f"Rsqlite-Protocol: {self.version}\r\nRsqlite-Cluster: {self.cluster_id}\r\n"
            f"Rsqlite-Node: {self.source}\r\nRsqlite-Address: {self.source_address}\r\n"
            f"Rsqlite-Target: {self.target}\r\n\r\n"
        ).encode("ascii")

    @classmethod
    def from_headers(cls, headers: Mapping[str, str]) -> Hello:
        """What these headers say; ValueError if they are not those of a dialler."""
        cluster_id = headers.get("Rsqlite-Cluster", "")
        if not 0 < len(cluster_id) <= _CLUSTER_LENGTH_MAX or not is_token(cluster_id):
            raise ValueError("Rsqlite-Cluster must name a cluster")
        source_address = headers.get("Rsqlite-Address", "")
        parse_address(source_address)
        return cls(
            cluster_id=cluster_id,
            source=_number(headers, "Rsqlite-Node"),
            source_address=source_address,
            target=_number(headers, "Rsqlite-Target"),
            version=_number(headers, "Rsqlite-Protocol"),
        )


def refusal(
    hello: Hello,
    *,
    node_id: int,
    cluster_id: str | None,
    accept_cluster: Callable[[str, int], bool],
) -> Refusal | None:
    """Why the node `node_id` does not grant this link, or None: it does.

    421 and 409 tell two mistakes apart: the dialler means somebody else, or is not one of us.
    """
    if hello.version != PROTOCOL_VERSION:
        return Refusal(426, f"this node speaks protocol {PROTOCOL_VERSION}, not {hello.version}")
    if hello.target != node_id:
        return Refusal(421, f"this is node {node_id}, not {hello.target}")
    if hello.source == node_id:
        return Refusal(409, f"node id {node_id} is this node's own: a copied data directory?")
    if cluster_id is None:
        if not accept_cluster(hello.cluster_id, hello.source):
            return Refusal(409, "this node belongs to no cluster, and does not join this one")
    elif cluster_id != hello.cluster_id:
        return Refusal(409, f"this node belongs to cluster {cluster_id}, not {hello.cluster_id}")
    return None


def acceptance(node_id: int, cluster_id: str) -> bytes:
    """The bytes that grant a link; frames follow from the dialler, and signs of life from us."""
    return (
        f"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {UPGRADE}\r\n"
        f"Rsqlite-Protocol: {PROTOCOL_VERSION}\r\nRsqlite-Cluster: {cluster_id}\r\n"
        f"Rsqlite-Node: {node_id}\r\n\r\n"
    ).encode("ascii")


def check_acceptance(hello: Hello, headers: Mapping[str, str]) -> None:
    """LinkRefused unless the listener is who we meant to reach (`headers` in lower case)."""
    if headers.get("upgrade", "").lower() != UPGRADE:
        raise LinkRefused("the answer is not that of an rsqlite node")
    if headers.get("rsqlite-node") != str(hello.target):
        raise LinkRefused(f"node {headers.get('rsqlite-node')} answers, not {hello.target}")
    if headers.get("rsqlite-cluster") != hello.cluster_id:
        raise LinkRefused(f"it belongs to cluster {headers.get('rsqlite-cluster')}")


def parse_address(address: str) -> tuple[str, int]:
    """Host and port of `host:port` or `[v6]:port`; ValueError if it is neither."""
    host, colon, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    is_port = port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65_535
    if not colon or not is_port or len(address) > ADDRESS_LENGTH_MAX or not is_token(address):
        raise ValueError(f"{address[:ADDRESS_LENGTH_MAX]!r} is no host:port")
    return host, int(port)


def format_address(host: str, port: int) -> str:
    """The inverse of `parse_address`."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _number(headers: Mapping[str, str], name: str) -> int:
    text = headers.get(name, "")
    if not (text.isascii() and text.isdigit() and len(text) <= 20) or int(text) >= 1 << 64:
        raise ValueError(f"{name} must be a number of 64 bits")
    return int(text)


def nobody() -> None:
    """Who is to be told when nobody wants to hear."""


class Exchange(asyncio.Protocol):
    """One request on a fresh connection. `answer` resolves to the body of a 200, or to b"" once
    the connection was handed to what `upgraded(headers)` returned; else it holds the error.

    The caller owns the deadline, and aborts the transport when it passes.
    """

    def __init__(
        self,
        request: bytes,
        upgraded: Callable[[Mapping[str, str]], asyncio.Protocol] | None,
        bytes_max: int,
        heard: Callable[[], None],
    ) -> None:
        self._request = request
        self._heard = heard
        self._bytes_max = bytes_max
        self._upgraded = upgraded
        self._received = bytearray()
        self._transport: asyncio.Transport | None = None
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        # Whoever waited may have given up; its error is then nobody's.
        self.answer.add_done_callback(lambda it: it.cancelled() or it.exception())

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        self._heard()
        if len(self._received) > self._bytes_max:
            self._fail("the answer is too long")
            return
        if self._upgraded is None or self.answer.done():
            return
        head, end, rest = bytes(self._received).partition(b"\r\n\r\n")
        if not end or not head.startswith(b"HTTP/1.1 101 "):
            return  # a refusal is read to its end, for its reason
        self._switch(head, rest)

    def connection_lost(self, error: Exception | None) -> None:
        if self.answer.done():
            return
        if error is not None:
            self.answer.set_exception(LinkRefused(str(error) or type(error).__name__))
            return
        # A body may be long: it is copied once.
        received = self._received
        end = received.find(b"\r\n\r\n")
        head = bytes(received if end < 0 else memoryview(received)[:end])
        body = b"" if end < 0 else bytes(memoryview(received)[end + 4 :])
        if self._upgraded is None and head.startswith(b"HTTP/1.1 200 "):
            if _headers(head).get("content-length", str(len(body))) != str(len(body)):
                self.answer.set_exception(LinkRefused("the answer was cut off"))
            else:
                self.answer.set_result(body)
        elif self._upgraded is None and head.startswith(b"HTTP/1.1 404 "):
            self.answer.set_exception(LookupError(_reason(head, body)))
        else:
            self.answer.set_exception(LinkRefused(_reason(head, body)))

    def _switch(self, head: bytes, rest: bytes) -> None:
        """The same turn that reads the 101 moves the transport on, so that no byte gets lost."""
        assert self._upgraded is not None
        assert self._transport is not None
        try:
            protocol = self._upgraded(_headers(head))
        except LinkRefused as error:
            self._fail(str(error))
            return
        transport = self._transport
        transport.set_protocol(protocol)
        self.answer.set_result(b"")
        protocol.connection_made(transport)
        if rest:
            protocol.data_received(rest)

    def _fail(self, reason: str) -> None:
        if not self.answer.done():
            self.answer.set_exception(LinkRefused(reason))
        if self._transport is not None:
            self._transport.abort()


def _headers(head: bytes) -> dict[str, str]:
    """Names in lower case; latin-1 takes any byte."""
    headers = {}
    for line in head.decode("latin-1").split("\r\n")[1:]:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    return headers


def _reason(head: bytes, body: bytes) -> str:
    """Why the other side said no, as a line for a status page."""
    if not head:
        return "closed without an answer"
    status = head.split(b"\r\n", 1)[0].decode("latin-1")
    text = body.decode("utf-8", "replace").strip().split("\n")[0]
    line = text or status
    return "".join(c if c.isprintable() else "?" for c in line)[:_REASON_LENGTH_MAX]


async def exchange(
    address: str,
    request: bytes,
    *,
    timeout_s: float,
    upgraded: Callable[[Mapping[str, str]], asyncio.Protocol] | None = None,
    bytes_max: int = PEER_HANDSHAKE_BYTES_MAX,
    heard: Callable[[], None] = nobody,
) -> bytes:
    """Dial, send the request, return what `Exchange.answer` resolves to; `heard` is called when a
    piece of that has come.

    Raises OSError, TimeoutError, ValueError (no address), LookupError (404) or LinkRefused.
    With an error no connection is left open.
    """
    host, port = parse_address(address)
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(timeout_s):
        transport, protocol = await loop.create_connection(
            lambda: Exchange(request, upgraded, bytes_max, heard), host, port
        )
        try:
            answer = await protocol.answer
        except BaseException:
            transport.abort()
            raise
    if upgraded is None:
        transport.abort()
    return answer
