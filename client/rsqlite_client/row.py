"""Row: a result row that is reached by position and by name, as sqlite3.Row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol


class Described(Protocol):
    """What a row needs of the cursor that it comes from."""

    @property
    def description(self) -> tuple[tuple[Any, ...], ...] | None: ...


class Row:
    """Set as `row_factory`. Names are found in any case; of two that are alike, the first."""

    __slots__ = ("_description", "_values")

    def __init__(self, cursor: Described, values: tuple[Any, ...]) -> None:
        if type(values) is not tuple:
            raise TypeError(f"Row() argument 2 must be tuple, not {type(values).__name__}")
        self._description = cursor.description
        self._values = values

    def keys(self) -> list[str]:
        """The names of the columns."""
        return [column[0] for column in self._description or ()]

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            for position, column in enumerate(self._description or ()):
                name = column[0]
                if name == key or (
                    name.isascii() and key.isascii() and name.lower() == key.lower()
                ):
                    return self._values[position]
            raise IndexError("No item with that key")
        if isinstance(key, slice):
            return self._values[key]
        if not hasattr(type(key), "__index__"):
            raise IndexError("Index must be int or string")
        return self._values[key]

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._values)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Row):
            return NotImplemented
        return self._description == other._description and self._values == other._values

    def __hash__(self) -> int:
        return hash(self._description) ^ hash(self._values)

    def __repr__(self) -> str:
        return f"<rsqlite.Row {dict(zip(self.keys(), self._values, strict=False))}>"


Sequence.register(Row)
