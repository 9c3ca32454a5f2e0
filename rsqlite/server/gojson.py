"""JSON text as Go's encoder writes it, from the text that orjson writes.

Go escapes `<`, `>`, `&` and two line separators inside strings. They occur nowhere else in JSON,
so replacing bytes is enough, and a search for bytes that are not there costs next to nothing.
REAL values keep orjson's form: 1.0 stays `1.0` where Go writes `1`, so that a client can tell it
from an INTEGER.
"""

from __future__ import annotations

import json

import orjson

_PRETTY_INDENT = 4


def escape_html(text: bytes) -> bytes:
    """Compact or pretty JSON with Go's HTML-safe escapes."""
    if b"<" in text:
        text = text.replace(b"<", b"\\u003c")
    if b">" in text:
        text = text.replace(b">", b"\\u003e")
    if b"&" in text:
        text = text.replace(b"&", b"\\u0026")
    if not text.isascii() and b"\xe2\x80" in text:
        text = text.replace(b"\xe2\x80\xa8", b"\\u2028").replace(b"\xe2\x80\xa9", b"\\u2029")
    return text


def pretty(text: bytes) -> bytes:
    """Compact JSON with line breaks and four spaces, as `json.MarshalIndent` does it."""
    value = orjson.loads(text)
    return json.dumps(value, indent=_PRETTY_INDENT, ensure_ascii=False).encode()


def dumps(value: object, *, is_pretty: bool = False) -> bytes:
    """`value` as Go would write it."""
    text = orjson.dumps(value)
    return escape_html(pretty(text) if is_pretty else text)
