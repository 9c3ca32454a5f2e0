"""Clients of a simulated cluster, and what they may see.

Each answer is judged when it comes: a counter never shows more than what was begun, nor, read at
level linearizable, less than what was acknowledged before the read began; money is never made or
lost. `judge` judges the end: what was acknowledged is there, once, and what was refused is not.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

from rsqlite.errors import Fate, LeadershipLost
from rsqlite.node.engine import Engine
from rsqlite.request import (
    Answer,
    Failure,
    Outcome,
    ReadLevel,
    Request,
    RequestKind,
    Rows,
    Write,
)
from rsqlite.testing import receipts

COUNTERS = 3
ACCOUNTS = 5
MONEY = 100
OPEN_MAX = 200
"""Requests that wait for their answer."""
SCHEMA = (
    "CREATE TABLE words(id INTEGER PRIMARY KEY, word TEXT UNIQUE, noise TEXT)",
    "CREATE TABLE counters(id INTEGER PRIMARY KEY, n INTEGER)",
    *(f"INSERT INTO counters VALUES({number}, 0)" for number in range(COUNTERS)),
    "CREATE TABLE accounts(id INTEGER PRIMARY KEY, n INTEGER CHECK(n >= 0))",
    *(f"INSERT INTO accounts VALUES({number}, {MONEY})" for number in range(ACCOUNTS)),
    *receipts.SCHEMA,
)
WRONG = (
    "INSERT INTO words(id, word) VALUES(-1, 'one'), (-1, 'two')",
    "SELEC",
    "INSERT INTO nothing VALUES(1)",
    "UPDATE accounts SET n = -1",
)
DEFINITIONS = (
    "CREATE TABLE more{n}(a, b)",
    "CREATE INDEX words{n} ON words(noise)",
    "DROP INDEX IF EXISTS words{n}",
    "ALTER TABLE words ADD COLUMN more{n}",
    "ANALYZE",
)


class Wrong(AssertionError):
    """The cluster broke a promise."""


def expect(holds: bool, text: str) -> None:
    """Wrong, unless it holds."""
    if not holds:
        raise Wrong(text)


class Workload:
    """All clients of one run."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._number = 0
        self._acknowledged: set[str] = set()
        self._refused: set[str] = set()
        self._unknown: set[str] = set()
        self._begun = [0] * COUNTERS
        """Increments that may have been carried out."""
        self._done = [0] * COUNTERS
        self._seen = [0] * COUNTERS
        """The largest value that an increment was answered with."""
        self._open: dict[Engine, dict[int, Callable[[], None]]] = {}
        """By the node that was asked: what ends a request that is not answered."""
        self.answered: Counter[str] = Counter()

    @property
    def waiting(self) -> int:
        """Requests that are not answered."""
        return sum(map(len, self._open.values()))

    def cut_off(self, engine: Engine) -> None:
        """The process of a node has ended: nobody hears what it would have answered."""
        for end in tuple(self._open.pop(engine, {}).values()):
            end()

    def operate(self, engine: Engine) -> None:
        """Let a client ask something of a node."""
        if self.waiting >= OPEN_MAX:
            return
        self._number += 1
        operations = {
            self._insert: 30,
            self._increment: 20,
            self._transfer: 10,
            self._pay: 15,
            self._read: 20,
            self._mistake: 5,
        }
        (operation,) = self._chance.choices(list(operations), weights=list(operations.values()))
        operation(engine)

    def define(self, engine: Engine) -> None:
        """Change the schema."""
        self._number += 1
        number = self._chance.choice((self._number, self._number // 2))
        sql = self._chance.choice(DEFINITIONS).format(n=number)
        self._ask(engine, Request(RequestKind.EXECUTE, [sql], [None]), lambda answer: None)

    def judge(self, words: list[str], counters: list[int], money: int) -> None:
        """What is in the tables at the end."""
        found = Counter(words)
        twice = sorted(word for word, times in found.items() if times > 1)
        expect(not twice, f"there twice: {twice[:5]}")
        lost = sorted(self._acknowledged - set(found))
        expect(not lost, f"acknowledged and lost: {lost[:5]} of {len(lost)}")
        kept = sorted(self._refused & set(found))
        expect(not kept, f"refused and there: {kept[:5]} of {len(kept)}")
        strange = sorted(set(found) - self._acknowledged - self._unknown)
        expect(not strange, f"from nowhere: {strange[:5]}")
        for number, value in enumerate(counters):
            low, high = self._done[number], self._begun[number]
            expect(low <= value <= high, f"counter {number}: {low} <= {value} <= {high}")
        expect(money == ACCOUNTS * MONEY, f"the accounts hold {money}")

    def _ask(self, engine: Engine, request: Request, done: Callable[[Answer], None]) -> None:
        request.timeout_s = self._chance.choice((0.0, 0.0, 0.5, 5.0))
        number = self._number
        answers: list[Answer] = []
        is_cut_off = False

        def end() -> None:
            nonlocal is_cut_off
            is_cut_off = True
            self.answered["nothing"] += 1
            done(LeadershipLost("the process has ended"))

        def answered(answer: Answer) -> None:
            if is_cut_off:
                return
            expect(not answers, f"answered twice: {answers} and {answer!r}")
            answers.append(answer)
            del self._open[engine][number]
            name = type(answer).__name__
            if not isinstance(answer, Outcome):
                name += f", {answer.fate.value}"
            self.answered[name] += 1
            done(answer)

        self._open.setdefault(engine, {})[number] = end
        engine.submit(request, answered)

    def _insert(self, engine: Engine) -> None:
        many = self._chance.choice((1, 1, 1, 3, 20))
        words = [f"{self._number}.{number}" for number in range(many)]
        sql = "INSERT INTO words(word, noise) VALUES(?, hex(randomblob(4)) || datetime('now'))"

        def done(answer: Answer) -> None:
            if isinstance(answer, Outcome):
                wrote = [one for one in answer.results if isinstance(one, Write)]
                expect(len(wrote) == many, f"an insert of {many}: {answer.results}")
                fate = Fate.APPLIED
            else:
                fate = answer.fate
            fates = {Fate.APPLIED: self._acknowledged, Fate.NOT_APPLIED: self._refused}
            fates.get(fate, self._unknown).update(words)

        request = Request(
            RequestKind.EXECUTE, [sql] * many, [[word] for word in words], transaction=True
        )
        self._ask(engine, request, done)

    def _increment(self, engine: Engine) -> None:
        number = self._chance.randrange(COUNTERS)
        self._begun[number] += 1

        def done(answer: Answer) -> None:
            if not isinstance(answer, Outcome):
                if answer.fate is Fate.NOT_APPLIED:
                    self._begun[number] -= 1
                return
            value = _only(answer)[0][0]
            self._done[number] += 1
            begun = self._begun[number]
            expect(value <= begun, f"counter {number} is {value}, {begun} were begun")
            self._seen[number] = max(self._seen[number], value)

        sql = "UPDATE counters SET n = n + 1 WHERE id = ? RETURNING n"
        self._ask(engine, Request(RequestKind.EXECUTE, [sql], [[number]]), done)

    def _transfer(self, engine: Engine) -> None:
        source, target = self._chance.sample(range(ACCOUNTS), 2)
        amount = self._chance.randint(1, 60)
        request = Request(
            RequestKind.EXECUTE,
            [
                "UPDATE accounts SET n = n - ? WHERE id = ?",
                "UPDATE accounts SET n = n + ? WHERE id = ?",
            ],
            [[amount, source], [amount, target]],
            transaction=True,
        )
        self._ask(engine, request, lambda answer: None)

    def _pay(self, engine: Engine) -> None:
        self._ask(engine, receipts.operation(self._chance), lambda answer: None)

    def _read(self, engine: Engine) -> None:
        (level,) = self._chance.choices((ReadLevel.LINEARIZABLE, ReadLevel.NONE), weights=(2, 1))
        least = list(self._seen) if level is ReadLevel.LINEARIZABLE else [0] * COUNTERS

        def done(answer: Answer) -> None:
            if not isinstance(answer, Outcome):
                return
            counters, accounts = answer.results
            if isinstance(counters, Failure) and level is ReadLevel.NONE:
                return  # a node that has not come to the tables
            expect(isinstance(counters, Rows), f"counters: {counters}")
            assert isinstance(counters, Rows)
            assert isinstance(accounts, Rows), answer
            for number, value in counters.rows:
                low, high = least[number], self._begun[number]
                expect(low <= value <= high, f"counter {number}: {low} <= {value} <= {high}")
            money = accounts.rows[0][0]
            expect(money in (None, ACCOUNTS * MONEY), f"the accounts hold {money}")

        sqls = ["SELECT id, n FROM counters", "SELECT sum(n) FROM accounts"]
        self._ask(engine, Request(RequestKind.QUERY, sqls, [None, None], level=level), done)

    def _mistake(self, engine: Engine) -> None:
        sql = self._chance.choice(WRONG)

        def done(answer: Answer) -> None:
            if isinstance(answer, Outcome):
                (result,) = answer.results
                expect(isinstance(result, Failure), f"{sql}: {result}")

        self._ask(engine, Request(RequestKind.EXECUTE, [sql], [None], transaction=True), done)


def _only(outcome: Outcome) -> list[tuple[int, ...]]:
    """The rows of the only result."""
    expect(len(outcome.results) == 1, f"one statement, and {outcome.results}")
    (result,) = outcome.results
    expect(isinstance(result, Rows), f"no rows: {result}")
    assert isinstance(result, Rows)
    return result.rows
