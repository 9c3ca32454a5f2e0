"""Asking a running node something over its HTTP API, for the commands that are given a URL."""

from __future__ import annotations

import http.client
from typing import NamedTuple
from urllib.parse import urlsplit

import orjson

from rsqlite.errors import RequestError, Unavailable

ANSWER_BYTES_MAX = 16 << 20


class Address(NamedTuple):
    """Where a node's HTTP API is."""

    host: str
    port: int


def address_of(url: str) -> Address:
    """`http://host:port`, or `host:port`; RequestError for anything else."""
    mistake = f"{url!r} is not the address of a node, such as http://localhost:4001"
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
    except ValueError as error:
        raise RequestError(f"{mistake}: {error}") from error
    try:
        port = parts.port or 4001
    except ValueError as error:
        raise RequestError(f"{url!r} has no port: {error}") from error
    if parts.scheme != "http" or not parts.hostname or parts.path.strip("/") or parts.query:
        raise RequestError(mistake)
    return Address(parts.hostname, port)


def with_timeout(path: str, timeout_s: float) -> str:
    """The path of a question to which the node answers in this time."""
    return f"{path}?timeout={timeout_s:.3f}s"


def ask(
    address: Address, method: str, path: str, *, body: object = None, timeout_s: float
) -> object:
    """What the node answers, as JSON has it; None for an answer without a body. RequestError when
    it says that the request is wrong, Unavailable for every other answer but 2xx, and for none."""
    connection = http.client.HTTPConnection(*address, timeout=timeout_s)
    given = None if body is None else orjson.dumps(body)
    headers = {} if given is None else {"Content-Type": "application/json"}
    try:
        connection.request(method, path, given, headers)
        response = connection.getresponse()
        text = response.read(ANSWER_BYTES_MAX)
    except (OSError, http.client.HTTPException) as error:
        where = f"{address.host}:{address.port}"
        raise Unavailable(f"the node at {where} does not answer: {error}") from error
    finally:
        connection.close()
    if response.status >= 300:
        words = text.decode("utf-8", "replace").strip()
        kind = RequestError if 400 <= response.status < 500 else Unavailable
        raise kind(words or f"{response.status} {response.reason}")
    try:
        return orjson.loads(text) if text else None
    except ValueError as error:
        raise Unavailable(f"what answers there is no node: {error}") from error
