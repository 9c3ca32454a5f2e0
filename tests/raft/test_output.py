"""An output is a value: what is not due is empty, and nothing in it can change."""

from __future__ import annotations

import dataclasses

import pytest

from rsqlite.raft.output import Output


def test_an_empty_output_asks_for_nothing() -> None:
    assert dataclasses.astuple(Output()) == (None, None, (), (), (), None)


def test_an_output_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Output().committed = ()  # type: ignore[misc]
