"""The clients of an acceptance run: each talks to any node and writes down all that it sees."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.e2e.api import Answer, Api
from tests.e2e.history import (
    REGISTER_OPERATIONS_MAX,
    REGISTER_UNKNOWN_MAX,
    History,
    Ledger,
    Outcome,
)

PAUSE_MAX_S = 0.02
"""Between operations: the run wants many different moments, not all that the machine can do."""
PAUSE_AFTER_FAILURE_S = 0.05
TURN_AWAY_SHARE = 0.8
"""Of those that would ask a node that let somebody wait in vain a moment ago."""
REGISTER_GROUPS = 2
REGISTER_CLIENTS = 5
MARKER_CLIENTS = 4
BANK_CLIENTS = 2
ACCOUNTS = 5
BALANCE = 1000

SCHEMA = [
    "CREATE TABLE registers(k INTEGER PRIMARY KEY, v INTEGER)",
    "CREATE TABLE markers(id INTEGER PRIMARY KEY, marker TEXT NOT NULL, "
    "size INTEGER NOT NULL CHECK(size > 0), at TEXT DEFAULT (datetime('now', 'subsec')), "
    "chance INTEGER DEFAULT (random()))",
    "CREATE INDEX markers_by_marker ON markers(marker)",
    "CREATE TABLE totals(id INTEGER PRIMARY KEY, rows INTEGER)",
    "CREATE TRIGGER count_markers AFTER INSERT ON markers "
    "BEGIN UPDATE totals SET rows = rows + 1; END",
    "INSERT INTO totals VALUES(1, 0)",
    "CREATE TABLE unique_values(v TEXT UNIQUE)",
    "INSERT INTO unique_values VALUES('taken')",
    "CREATE TABLE accounts(id INTEGER PRIMARY KEY, balance INTEGER NOT NULL CHECK(balance >= 0))",
    *(f"INSERT INTO accounts VALUES({number}, {BALANCE})" for number in range(ACCOUNTS)),
]

INSERT = "INSERT INTO markers(marker, size) VALUES(?, ?)"
CLASH = "INSERT INTO unique_values VALUES('taken')"


@dataclass(slots=True)
class Register:
    """The register that a group of clients uses now. A fresh one holds nothing."""

    key: int
    operations: int = 0
    unknown: int = 0
    last_seen: int | None = None

    @property
    def is_used_up(self) -> bool:
        return self.operations >= REGISTER_OPERATIONS_MAX or self.unknown >= REGISTER_UNKNOWN_MAX


@dataclass(slots=True)
class Clients:
    """All clients of one run, until `stop` is set."""

    api: Api
    history: History
    ledger: Ledger
    seed: int
    targets: list[int] | None = None
    """The positions of the nodes that are asked now; None: all."""
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    forwarded: int = 0
    """Acknowledged writes that another node than the asked one served."""
    acknowledged_by_node: dict[int, int] = field(default_factory=dict)
    _next_key: int = 0
    _registers: dict[int, Register] = field(default_factory=dict)

    def run(self) -> list[Coroutine[Any, Any, None]]:
        """A coroutine for each client."""
        plan: list[tuple[str, Callable[[str, random.Random], Coroutine[Any, Any, bool]]]] = []
        for group in range(REGISTER_GROUPS):
            for number in range(REGISTER_CLIENTS):
                plan.append((f"register-{group}-{number}", self._use_register))
        plan += [(f"marker-{number}", self._insert_markers) for number in range(MARKER_CLIENTS)]
        plan += [(f"bank-{number}", self._use_bank) for number in range(BANK_CLIENTS)]
        return [self._client(name, act) for name, act in plan]

    async def _client(
        self, name: str, act: Callable[[str, random.Random], Coroutine[Any, Any, bool]]
    ) -> None:
        chance = random.Random(f"{self.seed}-{name}")
        while not self.stop.is_set():
            is_well = await act(name, chance)
            await asyncio.sleep(
                chance.random() * PAUSE_MAX_S + (0 if is_well else PAUSE_AFTER_FAILURE_S)
            )

    def _node(self, chance: random.Random) -> int:
        targets = self.targets or range(len(self.api.urls))
        node = chance.choice(targets)
        if self.api.is_silent(node) and chance.random() < TURN_AWAY_SHARE:
            # Else all would soon wait for the one that hangs, and nobody would see the others.
            node = chance.choice([one for one in targets if not self.api.is_silent(one)] or targets)
        return node

    # Registers: reads, writes and compare-and-set, all linearizable

    async def _use_register(self, name: str, chance: random.Random) -> bool:
        group = int(name.split("-")[1])
        register = self._registers.get(group)
        if register is None or register.is_used_up:
            self._next_key += 1
            register = self._registers[group] = Register(self._next_key)
        register.operations += 1
        kind = chance.choices(["read", "write", "cas"], [5, 3, 3])[0]
        if kind == "read":
            return await self._read_register(name, chance, register)
        if kind == "cas" and register.last_seen is not None:
            return await self._compare_and_set(name, chance, register)
        return await self._write_register(name, chance, register)

    async def _read_register(self, name: str, chance: random.Random, register: Register) -> bool:
        node = self._node(chance)
        level = chance.choice(["linearizable", "linearizable", "linearizable", "strong"])
        record = self.history.invoke(name, node, "read", key=register.key, level=level)
        sql = "SELECT v FROM registers WHERE k = ?"
        rows = await self.api.read(node, f"level={level}", sql, register.key)
        if rows is None:
            self.history.complete(record, Outcome.FAIL)
            return False
        value = rows[0][0] if rows else None
        register.last_seen = value
        self.history.complete(record, Outcome.OK, value)
        return True

    async def _write_register(self, name: str, chance: random.Random, register: Register) -> bool:
        node = self._node(chance)
        record = self.history.invoke(name, node, "write", key=register.key)
        record.what["value"] = value = record.called  # no two writes of a run share a value
        sql = "INSERT INTO registers VALUES(?, ?) ON CONFLICT(k) DO UPDATE SET v = excluded.v"
        answer = await self._write(node, "/db/execute", [[sql, register.key, value]])
        self._complete_register(record, answer, register, None)
        return answer.outcome is Outcome.OK

    async def _compare_and_set(self, name: str, chance: random.Random, register: Register) -> bool:
        node = self._node(chance)
        expected = register.last_seen
        record = self.history.invoke(name, node, "cas", key=register.key, expected=expected)
        record.what["value"] = value = record.called
        sql = "UPDATE registers SET v = ? WHERE k = ? AND v = ?"
        path = chance.choice(["/db/execute", "/db/request"])
        answer = await self._write(node, path, [[sql, value, register.key, expected]])
        matched = bool(answer.results and answer.results[0].get("rows_affected", 0))
        if matched:
            register.last_seen = value
        self._complete_register(record, answer, register, matched)
        return answer.outcome is Outcome.OK

    def _complete_register(
        self, record: Any, answer: Answer, register: Register, result: bool | None
    ) -> None:
        if answer.sql_errors:
            self.history.violate(f"a register's write got {answer.sql_errors}")
        if answer.outcome is Outcome.OK and answer.results is None:
            # "Applied", but without what it returned: it happened, and a match is not known.
            answer = Answer(Outcome.INFO)
        if answer.outcome is Outcome.INFO:
            register.unknown += 1
        self.history.complete(record, answer.outcome, result)

    # Markers: unique inserts in all forms, some of which must be refused

    async def _insert_markers(self, name: str, chance: random.Random) -> bool:
        forms = [
            self._plain,
            self._plain,
            self._with_an_error_between,
            self._in_a_transaction,
            self._in_a_transaction_that_fails,
            self._refused,
            self._mixed,
            self._returning,
        ]
        return await chance.choice(forms)(name, chance)

    async def _plain(self, name: str, chance: random.Random) -> bool:
        node, marker = self._node(chance), self._marker(name)
        answer = await self._send(name, node, "/db/execute", [[INSERT, marker, 1]], [marker], [])
        if answer.outcome is Outcome.OK and answer.index and chance.random() < 0.3:
            await self._read_own_write(chance, marker, answer.index)
        return answer.outcome is Outcome.OK

    async def _with_an_error_between(self, name: str, chance: random.Random) -> bool:
        first, bad, last = (self._marker(name) for _ in range(3))
        statements = [[INSERT, first, 1], [INSERT, bad, 0], [INSERT, last, 1]]
        answer = await self._send(
            name, self._node(chance), "/db/execute", statements, [first, last], [bad]
        )
        return answer.outcome is Outcome.OK

    async def _in_a_transaction(self, name: str, chance: random.Random) -> bool:
        markers = [self._marker(name) for _ in range(3)]
        statements = [[INSERT, marker, 1] for marker in markers]
        answer = await self._send(
            name, self._node(chance), "/db/execute?transaction", statements, markers, []
        )
        return answer.outcome is Outcome.OK

    async def _in_a_transaction_that_fails(self, name: str, chance: random.Random) -> bool:
        markers = [self._marker(name) for _ in range(2)]
        statements = [[INSERT, markers[0], 1], CLASH, [INSERT, markers[1], 1]]
        answer = await self._send(
            name, self._node(chance), "/db/execute?transaction", statements, [], markers
        )
        return answer.outcome is Outcome.OK

    async def _refused(self, name: str, chance: random.Random) -> bool:
        marker = self._marker(name)
        statement = chance.choice(
            [
                [INSERT, marker, -1],
                [INSERT, marker, None],
                ["INSERT INTO no_such_table(marker) VALUES(?)", marker],
                ["INSERT INTO markers(marker, size) VALUES(?, abs(-9223372036854775808))", marker],
            ]
        )
        answer = await self._send(
            name, self._node(chance), "/db/execute", [statement], [], [marker]
        )
        return answer.outcome is Outcome.OK

    async def _mixed(self, name: str, chance: random.Random) -> bool:
        marker = self._marker(name)
        statements = [
            ["SELECT count(*) FROM markers WHERE marker = ?", marker],
            [INSERT, marker, 1],
            ["SELECT count(*) FROM markers WHERE marker = ?", marker],
        ]
        answer = await self._send(name, self._node(chance), "/db/request", statements, [marker], [])
        if answer.results is not None:
            seen = [one.get("values") for one in (answer.results[0], answer.results[2])]
            if seen != [[[0]], [[1]]]:
                self.history.violate(f"a mixed request saw {seen} of its own insert")
        return answer.outcome is Outcome.OK

    async def _returning(self, name: str, chance: random.Random) -> bool:
        marker = self._marker(name)
        statement = [f"{INSERT} RETURNING marker", marker, 1]
        answer = await self._send(
            name, self._node(chance), "/db/request", [statement], [marker], []
        )
        if answer.results is not None and answer.results[0].get("values") != [[marker]]:
            self.history.violate(f"RETURNING of {marker} gave {answer.results}")
        return answer.outcome is Outcome.OK

    async def _read_own_write(self, chance: random.Random, marker: str, index: int) -> None:
        """Any node, asked to be at the write's index, must know the write."""
        node = self._node(chance)
        sql = "SELECT count(*) FROM markers WHERE marker = ?"
        rows = await self.api.read(node, f"level=none&min_index={index}", sql, marker)
        if rows is not None and rows != [[1]]:
            self.history.violate(f"node {node} at index {index} gave {rows} for {marker}")

    # Bank: transfers are atomic, whichever node and level is asked

    async def _use_bank(self, name: str, chance: random.Random) -> bool:
        if chance.random() < 0.5:
            return await self._read_bank(name, chance)
        source, target = chance.sample(range(ACCOUNTS), 2)
        amount, marker = chance.randint(1, 400), self._marker(name)
        node = self._node(chance)
        record = self.history.invoke(name, node, "transfer", marker=marker)
        answer = await self._write(
            node,
            "/db/execute?transaction",
            [
                ["UPDATE accounts SET balance = balance + ? WHERE id = ?", amount, target],
                ["UPDATE accounts SET balance = balance - ? WHERE id = ?", amount, source],
                [INSERT, marker, amount],
            ],
        )
        # An account without enough refuses the transfer, and all of it.
        is_refused = answer.outcome is Outcome.OK and bool(answer.sql_errors)
        outcome = Outcome.FAIL if is_refused else answer.outcome
        self.history.complete(record, outcome, answer.error or answer.sql_errors)
        self.ledger.note([marker], outcome)
        return answer.outcome is Outcome.OK

    async def _read_bank(self, name: str, chance: random.Random) -> bool:
        node = self._node(chance)
        level = chance.choice(["none", "weak", "linearizable"])
        record = self.history.invoke(name, node, "sum", level=level)
        sql = "SELECT count(*), sum(balance) FROM accounts"
        rows = await self.api.read(node, f"level={level}", sql)
        self.history.complete(record, Outcome.FAIL if rows is None else Outcome.OK, rows)
        if rows is not None and rows != [[ACCOUNTS, ACCOUNTS * BALANCE]]:
            self.history.violate(f"node {node} at level {level} says the accounts are {rows}")
        return rows is not None

    # What all have in common

    def _marker(self, name: str) -> str:
        self._next_key += 1
        return f"{name}-{self._next_key}"

    async def _send(
        self,
        name: str,
        node: int,
        path: str,
        statements: Sequence[Any],
        good: Sequence[str],
        bad: Sequence[str],
    ) -> Answer:
        """Insert markers: `good` ones are as the answer says, `bad` ones are refused by SQL
        whatever becomes of the request."""
        record = self.history.invoke(name, node, "insert", path=path, good=good, bad=bad)
        answer = await self._write(node, path, statements)
        self.history.complete(record, answer.outcome, answer.error or answer.sql_errors)
        self.ledger.note(good, answer.outcome)
        self.ledger.note(bad, Outcome.FAIL)
        if answer.results is not None and bool(answer.sql_errors) != bool(bad):
            self.history.violate(f"{path} of {statements} was answered {answer.results}")
        return answer

    async def _write(self, node: int, path: str, statements: Sequence[Any]) -> Answer:
        answer = await self.api.write(node, path, statements)
        if answer.outcome is Outcome.OK:
            self.acknowledged_by_node[node] = self.acknowledged_by_node.get(node, 0) + 1
            if answer.served_by and answer.served_by not in self.api.urls[node]:
                self.forwarded += 1
        return answer
