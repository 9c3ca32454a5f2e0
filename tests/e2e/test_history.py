"""The evidence of an acceptance run is read rightly: a lost, doubled or risen write is noticed."""

from __future__ import annotations

import json

import pytest

from tests.e2e.api import write_answer
from tests.e2e.history import History, Ledger, Outcome
from tests.e2e.linearizability import Operation, is_linearizable


def ledger() -> Ledger:
    noted = Ledger()
    noted.note(["a", "b"], Outcome.OK)
    noted.note(["c"], Outcome.INFO)
    noted.note(["d"], Outcome.FAIL)
    return noted


@pytest.mark.parametrize("counted", [{"a": 1, "b": 1}, {"a": 1, "b": 1, "c": 1}])
def test_what_may_be_there_is_no_problem(counted: dict[str, int]) -> None:
    assert ledger().problems(counted) == []


@pytest.mark.parametrize(
    ("counted", "problem"),
    [
        ({"a": 1}, "1 acknowledged writes are missing: b"),
        ({"a": 1, "b": 2}, "1 writes are there more than once: b"),
        ({"a": 1, "b": 1, "c": 2}, "1 writes are there more than once: c"),
        ({"a": 1, "b": 1, "d": 1}, "1 refused writes are there: d"),
        ({"a": 1, "b": 1, "x": 1}, "1 writes nobody made are there: x"),
    ],
)
def test_what_must_not_be_is_told(counted: dict[str, int], problem: str) -> None:
    assert ledger().problems(counted) == [problem]


def test_a_registers_history_leaves_out_what_did_nothing() -> None:
    history = History()
    write = history.invoke("one", 0, "write", key=1, value=5)
    failed = history.invoke("two", 1, "write", key=1, value=6)
    history.complete(failed, Outcome.FAIL)
    history.complete(write, Outcome.OK)
    unknown = history.invoke("two", 1, "cas", key=1, expected=5, value=7)
    history.complete(unknown, Outcome.INFO)
    lost_read = history.invoke("one", 0, "read", key=1)
    history.complete(lost_read, Outcome.FAIL)
    read = history.invoke("one", 2, "read", key=1)
    history.complete(read, Outcome.OK, 7)
    never_ended = history.invoke("one", 2, "write", key=1, value=8)
    assert never_ended.outcome is Outcome.INFO
    operations = history.registers()[1]
    assert operations == [
        Operation("write", 1, 4, value=5),
        Operation("cas", 5, None, value=7, expected=5),
        Operation("read", 9, 10, got=7),
        Operation("write", 11, None, value=8),
    ]
    assert is_linearizable(operations, None)
    read.result = 6  # the value of the write that was refused
    assert not is_linearizable(history.registers()[1], None)


SUCCESS = json.dumps({"results": [{"rows_affected": 1}]}).encode()
FAILURE = json.dumps({"results": [], "error": "leadership lost while committing log"}).encode()


@pytest.mark.parametrize(
    ("status", "headers", "content", "outcome"),
    [
        (200, {"Rsqlite-Index": "9"}, SUCCESS, Outcome.OK),
        (200, {"Rsqlite-Write": "unknown"}, FAILURE, Outcome.INFO),
        (200, {"Rsqlite-Write": "not-applied"}, FAILURE, Outcome.FAIL),
        (200, {"Rsqlite-Write": "applied"}, FAILURE, Outcome.OK),
        (503, {"Rsqlite-Write": "not-applied"}, b"leader not found\n", Outcome.FAIL),
        (200, {}, FAILURE, Outcome.INFO),
        (503, {}, b"leader not found\n", Outcome.INFO),
        (500, {}, b"", Outcome.INFO),
        (200, {}, b"{", Outcome.INFO),
    ],
)
def test_only_the_answer_itself_makes_an_outcome_certain(
    status: int, headers: dict[str, str], content: bytes, outcome: Outcome
) -> None:
    answer = write_answer(status, headers, content)
    assert answer.outcome is outcome
    if content is SUCCESS:
        assert answer.results == [{"rows_affected": 1}]
        assert answer.index == 9
    else:
        assert answer.results is None
