"""Messages are values: frozen, comparable, each with who, to whom, in which term."""

from __future__ import annotations

import dataclasses
import typing

import pytest

from rsqlite.raft import messages


@pytest.mark.parametrize("kind", typing.get_args(messages.Message))
def test_a_message_names_source_target_and_term_first(kind: type) -> None:
    names = [field.name for field in dataclasses.fields(kind)]
    assert names[:3] == ["source", "target", "term"]
    assert kind.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert "__slots__" in vars(kind)


def test_equal_content_is_an_equal_message() -> None:
    assert messages.TimeoutNow(1, 2, 3) == messages.TimeoutNow(1, 2, 3)
    assert messages.Heartbeat(1, 2, 3, 4) != messages.Heartbeat(1, 2, 3, 4, round=1)
