"""Bugs that are put back: each still fits the code, and the simulator finds one."""

from __future__ import annotations

import pytest

from tests.testing.hunt import ROOT, Hunt, hunt, table
from tests.testing.mutations import MUTATIONS, Mutation


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda one: one.name)
def test_it_fits_the_code(mutation: Mutation) -> None:
    text = (ROOT / "rsqlite" / mutation.path).read_text()
    assert text.count(mutation.before) == 1
    changed = text.replace(mutation.before, mutation.after)
    assert changed != text
    compile(changed, mutation.path, "exec")


def test_no_name_is_used_twice() -> None:
    names = [mutation.name for mutation in MUTATIONS]
    assert len(set(names)) == len(names)


@pytest.mark.slow
def test_a_bug_that_is_put_back_is_found() -> None:
    (bug,) = (one for one in MUTATIONS if one.name == "acknowledged before the sync")
    assert hunt(bug, 40).found


@pytest.mark.slow
def test_what_is_none_is_not_found() -> None:
    nothing = Mutation("nothing", "raft/core.py", "It decides nothing itself.", "It decides none.")
    assert not hunt(nothing, 2).found


def test_the_table_tells_what_was_missed() -> None:
    one, other = MUTATIONS[:2]
    text = table(
        [Hunt(one, 3, 1.0, "Wrong: a | b"), Hunt(other, 300, 9.0, "")], 300, invariants=False
    )
    assert "1 of 2 found" in text
    assert f"| {one.name} | `{one.path}` | 3 | Wrong: a / b |" in text
    assert "not in 300" in text
