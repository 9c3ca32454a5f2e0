"""From the values of an answer to what a program gets: tuples, converters, text factories.

Converters get what sqlite3 gives them, the value as SQLite would write it, in bytes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

PARSE_DECLTYPES = 1
PARSE_COLNAMES = 2

_BRACKETS = re.compile(r"\[([^\[\]]*)\]")

_EMPTY = ("", b"")

Converter = Callable[[bytes], Any]

_converters: dict[str, Converter] = {}


def register_converter(typename: str, converter: Converter, /) -> None:
    """Use `converter` for columns of this type, in connections whose `detect_types` ask for it."""
    _converters[typename.upper()] = converter


def column_names(columns: Sequence[str], detect_types: int) -> list[str]:
    """What `description` calls the columns: with PARSE_COLNAMES the part before ` [`."""
    if not detect_types & PARSE_COLNAMES:
        return list(columns)
    return [name.partition("[")[0].removesuffix(" ") if "[" in name else name for name in columns]


def converters_of(
    columns: Sequence[str], decltypes: Sequence[str | None], detect_types: int
) -> list[Converter | None]:
    """The converter of each column."""
    return [
        _converter_of(name, declared, detect_types)
        for name, declared in zip(columns, decltypes, strict=True)
    ]


def _converter_of(name: str, declared: str | None, detect_types: int) -> Converter | None:
    found = None
    if detect_types & PARSE_COLNAMES and (kind := _BRACKETS.search(name)) is not None:
        found = _converters.get(kind[1].upper())
    if found is None and detect_types & PARSE_DECLTYPES and declared is not None:
        first_word = declared.partition("(")[0].partition(" ")[0]
        found = _converters.get(first_word.upper())
    return found


def converted(
    rows: Sequence[tuple[Any, ...]],
    converters: Sequence[Converter | None],
    text_factory: Callable[[bytes], Any],
) -> list[tuple[Any, ...]]:
    """The rows as a connection with these settings gives them."""
    make = _text_maker(text_factory)
    if not any(converters) and make is None:
        return list(rows)
    return [
        tuple(
            _cell(value, converter, make) for value, converter in zip(row, converters, strict=True)
        )
        for row in rows
    ]


def _cell(value: Any, converter: Converter | None, make: Callable[[str], Any] | None) -> Any:
    if converter is not None:
        # sqlite3 takes what has no bytes at all for NULL.
        return None if value is None or value in _EMPTY else converter(as_bytes(value))
    if make is not None and type(value) is str:
        return make(value)
    return value


def _text_maker(text_factory: Any) -> Callable[[str], Any] | None:
    """None for `str`, which TEXT is already."""
    if text_factory is str:
        return None
    return lambda text: text_factory(text.encode("utf-8"))


def as_bytes(value: int | float | str | bytes) -> bytes:
    """A value as SQLite casts it to a BLOB."""
    match value:
        case bytes():
            return value
        case str():
            return value.encode("utf-8")
        case float():
            return _real(value).encode("ascii")
    return b"%d" % value


def _real(value: float) -> str:
    """As SQLite writes it: with 15 digits where these tell all, else with 17, and with a point."""
    if math.isinf(value):
        return "Inf" if value > 0 else "-Inf"
    text = f"{value or 0.0:.15g}"
    if float(text) != value:
        text = f"{value:.17g}"
    mantissa, e, exponent = text.partition("e")
    if "." not in mantissa:
        mantissa += ".0"
    return mantissa + e + exponent
