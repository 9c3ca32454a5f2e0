"""The cases themselves: they say what plain SQLite does, so plain SQLite must do it."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from rsqlite.request import Failure
from tests.statemachine.battery.cases import all_cases
from tests.statemachine.battery.model import Ask, Case, Expect
from tests.statemachine.battery.oracle import SKIPPED, Oracle

CASES = all_cases()


def test_there_are_enough_cases() -> None:
    assert len(CASES) >= 400


def test_the_names_of_cases_are_unique() -> None:
    ids = [case.id for case in CASES]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_plain_sqlite_does_what_the_case_says(case: Case, tmp_path: Path) -> None:
    oracle = Oracle(str(tmp_path / "plain.db"), fk=case.fk)
    try:
        setup = oracle.ask(Ask(case.setup))
        assert not [one for one in setup if isinstance(one, Failure)]
        for ask in case.requests:
            _check(ask, oracle)
    finally:
        oracle.close()


def _check(ask: Ask, oracle: Oracle) -> None:
    skipped = {i for i, sql in enumerate(ask.statements) if sql.expect is Expect.REFUSED}
    results = oracle.ask(ask, skipped)
    if ask.commit_fails:
        last = results.pop()
        assert isinstance(last, Failure)
        assert ask.commit_fails in last.message
        assert not any(isinstance(one, Failure) for one in results)
        return
    if len(results) != len(ask.statements):
        # Texts without a statement have no result, and a failed transaction ends early.
        _check_failures_only(ask, results)
        return
    for sql, result in itertools.zip_longest(ask.statements, results):
        if sql.expect is Expect.FAILS:
            assert isinstance(result, Failure), f"{sql.text} did not fail: {result}"
            assert sql.why in result.message
        elif sql.expect is not Expect.EITHER and result is not SKIPPED:
            assert not isinstance(result, Failure), f"{sql.text}: {result}"


def _check_failures_only(ask: Ask, results: list[object]) -> None:
    failures = [one for one in results if isinstance(one, Failure) and one is not SKIPPED]
    reasons = [sql.why for sql in ask.statements if sql.expect is Expect.FAILS]
    assert len(failures) <= len(reasons), failures
    for failure, why in zip(failures, reasons, strict=False):
        assert why in failure.message
