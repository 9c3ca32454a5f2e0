"""All cases of the battery: `all_cases()`."""

from __future__ import annotations

from tests.statemachine.battery import (
    chance,
    clock,
    conflicts,
    corners,
    counters,
    foreign,
    indexes,
    inserts,
    parameters,
    partial,
    planner,
    pragmas,
    raises,
    refusals,
    reserved,
    selects,
    tables,
    texts,
    traps,
    triggers,
    updates,
    upserts,
    values,
    virtual,
)
from tests.statemachine.battery.model import Case

MODULES = (
    inserts,
    updates,
    upserts,
    conflicts,
    raises,
    partial,
    tables,
    indexes,
    triggers,
    traps,
    corners,
    foreign,
    selects,
    virtual,
    chance,
    clock,
    counters,
    values,
    parameters,
    texts,
    refusals,
    reserved,
    pragmas,
    planner,
)


def all_cases() -> list[Case]:
    """Every case, theme by theme, in a fixed order."""
    return [case for module in MODULES for theme in module.THEMES for case in theme.cases]
