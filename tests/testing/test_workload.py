"""The judge of a simulation must find what is wrong, and nothing else."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from rsqlite.errors import Fate, LeadershipLost, NoLeader
from rsqlite.request import (
    Answer,
    Done,
    Failure,
    Outcome,
    ReadLevel,
    Request,
    RequestKind,
    Rows,
    Write,
)
from rsqlite.testing.workload import ACCOUNTS, COUNTERS, MONEY, Workload, Wrong

ALL = ACCOUNTS * MONEY


class Store:
    """A database of one's own, that answers as a test wishes: `lie` may change each answer."""

    def __init__(self, lie: Callable[[Request, Answer], Answer] = lambda _, answer: answer) -> None:
        self.lie = lie
        self.words: list[str] = []
        self.counters = [0] * COUNTERS

    def submit(self, request: Request, done: Done) -> None:
        done(self.lie(request, self.answer(request)))

    def answer(self, request: Request) -> Answer:
        sql = request.sqls[0]
        if request.kind is RequestKind.QUERY:
            counters: list[Any] = list(enumerate(self.counters))
            return Outcome([Rows(["id", "n"], [], counters), Rows(["n"], [], [(ALL,)])])
        if sql.startswith("INSERT INTO words(word"):
            self.words += [word for (word,) in request.parameters]
            return Outcome([Write(1, 1)] * len(request.sqls))
        if sql.startswith("UPDATE counters"):
            ((number,),) = request.parameters
            self.counters[number] += 1
            return Outcome([Rows(["n"], [], [(self.counters[number],)], is_read=False)])
        if sql.startswith("UPDATE accounts SET n = n -"):
            return Outcome([Write(1, 1)] * 2)
        return Outcome([Failure("no")])


def worked(store: Store, times: int = 200) -> Workload:
    workload = Workload(random.Random(1))
    for _ in range(times):
        workload.operate(store)  # type: ignore[arg-type]
    return workload


def test_a_store_that_keeps_its_promises_is_right() -> None:
    store = Store()
    worked(store).judge(store.words, store.counters, ALL)


@pytest.mark.parametrize("words", ["lost", "twice", "strange"])
def test_words_that_are_not_as_they_were_written_are_found(words: str) -> None:
    store = Store()
    workload = worked(store)
    kept = {"lost": [], "twice": [*store.words, store.words[0]], "strange": [*store.words, "x"]}
    with pytest.raises(Wrong, match=r"acknowledged and lost|there twice|from nowhere"):
        workload.judge(kept[words], store.counters, ALL)


@pytest.mark.parametrize(("change", "money"), [(-1, ALL), (1, ALL), (0, ALL - 1)])
def test_numbers_that_are_not_as_they_were_written_are_found(change: int, money: int) -> None:
    store = Store()
    workload = worked(store)
    with pytest.raises(Wrong, match=r"counter 0|the accounts"):
        workload.judge(store.words, [store.counters[0] + change, *store.counters[1:]], money)


def refuse(fate: Fate) -> Callable[[Request, Answer], Answer]:
    def lie(request: Request, answer: Answer) -> Answer:
        if request.kind is RequestKind.QUERY:
            return answer
        return NoLeader() if fate is Fate.NOT_APPLIED else LeadershipLost()

    return lie


def test_what_was_refused_must_not_be_there() -> None:
    store = Store(refuse(Fate.NOT_APPLIED))
    with pytest.raises(Wrong):
        worked(store).judge(store.words, store.counters, ALL)


@pytest.mark.parametrize("is_there", [False, True])
def test_what_is_unknown_may_be_there_or_not(is_there: bool) -> None:
    store = Store(refuse(Fate.UNKNOWN))
    workload = worked(store)
    if is_there:
        workload.judge(store.words, store.counters, ALL)
    else:
        workload.judge([], [0] * COUNTERS, ALL)


@pytest.mark.parametrize("level", [ReadLevel.NONE, ReadLevel.LINEARIZABLE])
@pytest.mark.parametrize("change", [-1, 1])
def test_a_read_that_shows_the_past_or_the_future(change: int, level: ReadLevel) -> None:
    def lie(request: Request, answer: Answer) -> Answer:
        if request.kind is RequestKind.QUERY and request.level is level:
            assert isinstance(answer, Outcome)
            rows: Any = answer.results[0]
            rows.rows = [(number, value + change) for number, value in rows.rows]
        return answer

    store = Store(lie)
    if change < 0 and level is ReadLevel.NONE:
        store.counters = [1] * COUNTERS  # below 0 would be from nowhere
        with pytest.raises(Wrong):
            worked(store)  # one more than was begun
        return
    with pytest.raises(Wrong, match=r"counter \d:"):
        worked(store)


def test_an_answer_for_another_request_is_found() -> None:
    def lie(request: Request, answer: Answer) -> Answer:
        return Outcome([Write(1, 1)] * 2) if "RETURNING" in request.sqls[0] else answer

    with pytest.raises(Wrong, match="one statement"):
        worked(Store(lie))


def test_a_request_that_is_answered_twice_is_found() -> None:
    class Twice(Store):
        def submit(self, request: Request, done: Done) -> None:
            super().submit(request, done)
            done(NoLeader())

    with pytest.raises(Wrong, match="answered twice"):
        worked(Twice())


def test_requests_that_wait_are_bounded() -> None:
    class Silent(Store):
        def submit(self, request: Request, done: Done) -> None:
            pass

    workload = worked(Silent(), 1000)
    assert workload.waiting == 200
