"""From what a program passes as parameters to the list of values that a statement is sent with.

Names, numbers and adapters are dealt with here, by sqlite3's rules and with its messages, so that
what is sent is one value for each parameter in the order of their numbers.
"""

from __future__ import annotations

import sqlite3
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from rsqlite_client.errors import ProgrammingError
from rsqlite_client.statement import Statement

SqlValue = int | float | str | bytes | None

PrepareProtocol = sqlite3.PrepareProtocol
"""What `__conform__` is asked with, so that classes written for sqlite3 work unchanged."""

_adapters: dict[type, Callable[[Any], Any]] = {}
_PLAIN = frozenset((int, float, str, bytes, type(None)))
_SEQUENCES = frozenset((list, tuple))
_INTEGER_MIN, _INTEGER_MAX = -(2**63), 2**63 - 1
_OVERFLOW = "Python int too large to convert to SQLite INTEGER"


def register_adapter(type_: type, adapter: Callable[[Any], Any], /) -> None:
    """Pass values of `type_` through `adapter` before they are bound, in every connection."""
    _adapters[type_] = adapter


def adapt(value: Any, protocol: Any = PrepareProtocol, default: Any = ..., /) -> Any:
    """What an adapter, or the value's own `__conform__`, makes of it. ProgrammingError, or
    `default`, when there is none."""
    is_adapted, adapted = _adapted(value, protocol)
    if is_adapted:
        return adapted
    if default is ...:
        raise ProgrammingError("can't adapt")
    return default


def _adapted(value: Any, protocol: Any = PrepareProtocol) -> tuple[bool, Any]:
    adapter = _adapters.get(type(value))
    if adapter is not None:
        return True, adapter(value)
    conform = getattr(value, "__conform__", None)
    conformed = None if conform is None else conform(protocol)
    return conformed is not None, conformed


def bind(statement: Statement, parameters: Any) -> Sequence[SqlValue]:
    """The values of one execution."""
    kind = type(parameters)
    if kind in _SEQUENCES:
        if len(parameters) != len(statement.names):
            raise _wrong_number(statement, len(parameters))
        if _PLAIN.isdisjoint(_adapters):
            for value in parameters:
                kind = type(value)
                if kind is int:
                    if not _INTEGER_MIN <= value <= _INTEGER_MAX:
                        break
                elif kind is str:
                    if not value.isascii():
                        value.encode("utf-8")
                elif value is not None and kind is not bytes:
                    break
            else:
                # A copy of what its owner may change while the command waits for its turn.
                return tuple(parameters)
    return [_value(value, number) for number, value in enumerate(_given(statement, parameters), 1)]


def bind_many(statement: Statement, rows: Iterable[Any]) -> list[Sequence[SqlValue]]:
    """The values of each execution of one statement."""
    given = list(rows)
    if _PLAIN.isdisjoint(_adapters) and set(map(type, given)) <= _SEQUENCES:
        count = len(statement.names)
        if set(map(len, given)) <= {count} and _are_plain(given):
            return given if set(map(type, given)) <= {tuple} else list(map(tuple, given))
    return [bind(statement, parameters) for parameters in given]


def _are_plain(rows: list[Sequence[Any]]) -> bool:
    """Can all values be sent as they are? The set of their types tells most of it at once."""
    kinds = set(map(type, chain.from_iterable(rows)))
    if not kinds <= _PLAIN:
        return False
    try:
        if int in kinds:
            array("q", [value for row in rows for value in row if type(value) is int])
        if float in kinds and not all(
            value == value for row in rows for value in row if type(value) is float
        ):
            return False
        if str in kinds:
            text = "".join([value for row in rows for value in row if type(value) is str])
            if not text.isascii():
                text.encode("utf-8")
    except (OverflowError, UnicodeEncodeError):
        return False
    return True


def _given(statement: Statement, parameters: Any) -> Iterable[Any]:
    """What was passed for each parameter by its number."""
    names = statement.names
    if isinstance(parameters, tuple | list) or (
        not isinstance(parameters, dict) and _is_sequence(parameters)
    ):
        count = len(parameters)
        if count != len(names):
            raise _wrong_number(statement, count)
        return (parameters[position] for position in range(count))
    if isinstance(parameters, Mapping) or hasattr(type(parameters), "__getitem__"):
        return _named(names, parameters)
    raise ProgrammingError("parameters are of unsupported type")


def _is_sequence(value: Any) -> bool:
    """As PySequence_Check sees it, for what comes from Python: it has a length and positions."""
    return (
        isinstance(value, Sequence | bytes | bytearray | memoryview)
        or (hasattr(type(value), "__getitem__") and not isinstance(value, Mapping))
    ) and hasattr(type(value), "__len__")


def _named(names: list[str | None], parameters: Any) -> Iterator[Any]:
    """One after the other, for the first mistake is told."""
    for number, name in enumerate(names, 1):
        if name is None:
            raise ProgrammingError(
                f"Binding {number} has no name, but you supplied a dictionary (which has only"
                " names)."
            )
        try:
            value = parameters[name[1:]]
        except LookupError:
            raise ProgrammingError(
                f"You did not supply a value for binding parameter :{name[1:]}."
            ) from None
        yield value


def _wrong_number(statement: Statement, count: int) -> ProgrammingError:
    return ProgrammingError(
        "Incorrect number of bindings supplied. The current statement uses"
        f" {len(statement.names)}, and there are {count} supplied."
    )


def _value(value: Any, number: int) -> SqlValue:
    """The SQL value that sqlite3 would bind."""
    kind = type(value)
    if kind in _adapters or kind not in _PLAIN:
        is_adapted, adapted = _adapted(value)
        if is_adapted:
            value, kind = adapted, type(adapted)
    if value is None or kind is bytes:
        return value  # type: ignore[no-any-return]
    if isinstance(value, int):
        plain = int.__index__(value)
        if not _INTEGER_MIN <= plain <= _INTEGER_MAX:
            raise OverflowError(_OVERFLOW)
        return plain
    if isinstance(value, float):
        real = float.__float__(value)
        return real if real == real else None
    if isinstance(value, str):
        text = str.__str__(value)
        if not text.isascii():
            text.encode("utf-8")
        return text
    try:
        return bytes(memoryview(value))
    except TypeError:
        raise ProgrammingError(
            f"Error binding parameter {number}: type '{kind.__name__}' is not supported"
        ) from None
