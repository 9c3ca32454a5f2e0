"""What is sent and what must come back: sources for the generator, and the list of workloads.

Values are chosen so that bodies of one workload have one length (clients repeat their head byte for
byte) and so that every row is distinct: afterwards the table must hold exactly the acknowledged
rows, each once.
"""

from __future__ import annotations

import fnmatch
import itertools
import json
import random
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bench.generator import Source, WrongAnswer, request_bytes, request_head

BULK_ROWS = 1000
READ_ROWS = 2000
READ_FIRST_ID = 10_001
"""Ids of one width, so that all read requests have one length."""
BULK_PARSED_EVERY = 16
"""Each bulk answer is counted and measured; one in so many is also parsed row by row."""

ID_GAP_MAX = 16
"""Ids that lie wider apart than this, on average, are compared in another way."""

Through = Literal["leader", "follower"]
Kind = Literal["insert", "bulk", "read-none", "read-linearizable"]


@dataclass(frozen=True, slots=True)
class Goal:
    """The figure to reach: `figure` of the workload against that of a floor in the same round."""

    floor: Literal["echo", "fdatasync", "sqlite"]
    figure: Literal["per_second", "p50_ms", "rows_per_second"]
    factor: float
    is_at_most: bool = False

    def is_met(self, ratio: float) -> bool:
        return ratio <= self.factor if self.is_at_most else ratio >= self.factor

    def __str__(self) -> str:
        return f"{'<=' if self.is_at_most else '>='} {self.factor:g} x {self.floor}"


@dataclass(frozen=True, slots=True)
class Workload:
    """One row of the table. `goal` without `is_required` gives the ratio and no verdict."""

    kind: Kind
    clients: int
    through: Through
    goal: Goal
    is_required: bool

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.clients}-{self.through}"

    @property
    def is_write(self) -> bool:
        return self.kind in ("insert", "bulk")

    @property
    def rows_per_request(self) -> int:
        return BULK_ROWS if self.kind == "bulk" else 1


_INSERT_GOALS = {
    1: Goal("fdatasync", "p50_ms", 5.0, is_at_most=True),
    16: Goal("echo", "per_second", 0.4),
    64: Goal("echo", "per_second", 1.25),
    256: Goal("echo", "per_second", 2.0),
}
_BULK_GOAL = Goal("sqlite", "rows_per_second", 0.11)
_READ_FACTORS: dict[Kind, float] = {"read-none": 1.6, "read-linearizable": 1.4}


def all_workloads() -> list[Workload]:
    """Every workload, those through the leader first."""
    found = []
    for through in ("leader", "follower"):
        is_leader = through == "leader"
        for clients, goal in _INSERT_GOALS.items():
            found.append(Workload("insert", clients, through, goal, is_leader))
        for clients in (1, 16):
            found.append(Workload("bulk", clients, through, _BULK_GOAL, is_leader))
        for kind, factor in _READ_FACTORS.items():
            for clients in (1, 16, 64):
                goal = Goal("echo", "per_second", factor)
                found.append(Workload(kind, clients, through, goal, is_leader and clients == 64))
    return found


def workloads_matching(patterns: Sequence[str], has_follower: bool) -> list[Workload]:
    """Those with a name that one of the patterns fits; those through a follower need one."""
    return [
        workload
        for workload in all_workloads()
        if any(fnmatch.fnmatch(workload.name, pattern) for pattern in patterns)
        and (has_follower or workload.through == "leader")
    ]


def workload_named(name: str) -> Workload:
    return next(one for one in all_workloads() if one.name == name)


def error_in(data: bytes, body: int) -> str:
    return f"unexpected answer {data[body : body + 400]!r}"


class Inserts:
    """`INSERT` of one distinct row per request; answers must carry distinct rowids."""

    def __init__(
        self, url: str, table: str, *, before: bytes = b"row ", after: bytes = b" abcdefghij"
    ) -> None:
        """A row's text is its number of ten digits, with something before it and after it."""
        head = b'[["INSERT INTO %s(v) VALUES(?)","%s' % (table.encode(), before)
        tail = b'%s"]]' % after
        length = len(head) + 10 + len(tail)
        self._prefix = request_head(url, "/db/execute", length) + head
        self._suffix = tail
        self._number = itertools.count()
        self._ids = array("q")

    @property
    def rows(self) -> int:
        return len(self._ids)

    def next(self) -> tuple[bytes, int]:
        return self._prefix + b"%010d" % next(self._number) + self._suffix, 0

    def check(self, data: bytes, body: int, expected: bytes | int) -> None:
        if data.startswith(b'{"results":[{"last_insert_id":', body) and data.endswith(
            b',"rows_affected":1}]}'
        ):
            self._ids.append(int(data[body + 30 : -21]))
        else:
            self._ids.extend(written_ids(data, body, 1))

    def finish(self) -> None:
        if has_repeats(self._ids):
            raise WrongAnswer("two inserts were answered with the same last_insert_id")


class Bulks:
    """A request of 1,000 single-row INSERT statements."""

    def __init__(self, url: str, table: str) -> None:
        statement = f"INSERT INTO {table}(v) VALUES(?)"
        rows = [[statement, f"@@@@@@@@@@ row {n:04d} abc"] for n in range(BULK_ROWS)]
        body = json.dumps(rows, separators=(",", ":")).encode()
        self._template = request_bytes(url, "/db/execute", body)
        self._number = itertools.count()
        self._answers = 0

    @property
    def rows(self) -> int:
        return self._answers * BULK_ROWS

    def next(self) -> tuple[bytes, int]:
        return self._template.replace(b"@@@@@@@@@@", b"%010d" % next(self._number)), 0

    def check(self, data: bytes, body: int, expected: bytes | int) -> None:
        self._answers += 1
        if (
            self._answers % BULK_PARSED_EVERY
            and data.count(b',"rows_affected":1}', body) == BULK_ROWS
            and data.count(b'{"last_insert_id":', body) == BULK_ROWS
        ):
            return
        if len(set(written_ids(data, body, BULK_ROWS))) != BULK_ROWS:
            raise WrongAnswer("two rows of a request have the same last_insert_id")

    def finish(self) -> None:
        pass


class Exchanges:
    """Fixed requests, each with the one body that must come back, in a shuffled round."""

    def __init__(self, pairs: list[tuple[bytes, bytes]]) -> None:
        random.Random(1).shuffle(pairs)
        self.next = itertools.cycle(pairs).__next__

    def check(self, data: bytes, body: int, expected: bytes | int) -> None:
        assert isinstance(expected, bytes)
        if not (data.endswith(expected) and len(data) - body == len(expected)):
            # Another server may write the same answer with other spaces or other keys in between.
            answer, wanted = parsed(data, body), json.loads(expected)
            if answer != wanted and not holds(answer, wanted):
                raise WrongAnswer(error_in(data, body))

    def finish(self) -> None:
        pass


def read_row(number: int) -> tuple[int, str, float, int, str]:
    return (
        number,
        f"name {number:08d}",
        (2 * number + 1) / 16,
        number * 7,
        f"note {number % 97:04d}",
    )


def reads(url: str, table: str, level: str) -> Exchanges:
    """A point read of a five-column row by primary key, with a parameter."""
    pairs = []
    path = f"/db/query?level={level}"
    for number in range(READ_FIRST_ID, READ_FIRST_ID + READ_ROWS):
        sql = f"SELECT id,name,share,amount,note FROM {table} WHERE id=?"
        body = json.dumps([[sql, number]], separators=(",", ":")).encode()
        answer = {
            "results": [
                {
                    "columns": ["id", "name", "share", "amount", "note"],
                    "types": ["integer", "text", "real", "integer", "text"],
                    "values": [list(read_row(number))],
                }
            ]
        }
        wanted = json.dumps(answer, separators=(",", ":")).encode()
        pairs.append((request_bytes(url, path, body), wanted))
    return Exchanges(pairs)


def echoes(url: str) -> Exchanges:
    """The insert workload's body, sent back as it came."""
    pairs = []
    for number in range(1000):
        body = b'[["INSERT INTO bench_insert_16_leader(v) VALUES(?)","row %010d abcdefghij"]]'
        pairs.append((request_bytes(url, "/echo", body % number), body % number))
    return Exchanges(pairs)


def source_of(workload: Workload, url: str, table: str) -> Source:
    match workload.kind:
        case "insert":
            return Inserts(url, table)
        case "bulk":
            return Bulks(url, table)
        case "read-none":
            return reads(url, table, "none")
        case "read-linearizable":
            return reads(url, table, "linearizable")


def parsed(data: bytes, body: int) -> object:
    try:
        return json.loads(data[body:])
    except ValueError as error:
        raise WrongAnswer(error_in(data, body)) from error


def holds(answer: object, wanted: object) -> bool:
    """Whether `answer` has everything of `wanted`; keys such as `time` may come on top."""
    if isinstance(wanted, dict):
        return isinstance(answer, dict) and all(
            key in answer and holds(answer[key], value) for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        return (
            isinstance(answer, list)
            and len(answer) == len(wanted)
            and all(map(holds, answer, wanted))
        )
    return answer == wanted


def has_repeats(ids: array[int]) -> bool:
    """Whether a number is there twice. Ids lie close together: ten million take 10 MB, not 1 GB."""
    low, high = min(ids, default=0), max(ids, default=0)
    if high - low > ID_GAP_MAX * len(ids):
        return len(set(ids)) != len(ids)
    seen = bytearray(high - low + 1)
    for one in ids:
        seen[one - low] = 1
    return seen.count(1) != len(ids)


def written_ids(data: bytes, body: int, count: int) -> list[int]:
    """The last_insert_id of each result, checked one by one; the slow and complete way."""
    answer = parsed(data, body)
    if not isinstance(answer, dict) or "error" in answer:
        raise WrongAnswer(error_in(data, body))
    results = answer.get("results")
    if not isinstance(results, list) or len(results) != count:
        raise WrongAnswer(error_in(data, body))
    ids = []
    for result in results:
        if "error" in result or result.get("rows_affected") != 1:
            raise WrongAnswer(f"unexpected result {result!r}")
        ids.append(int(result["last_insert_id"]))
    return ids
