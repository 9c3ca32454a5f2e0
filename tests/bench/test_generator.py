"""The generator counts right answers only, whatever form a server gives them."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest

from bench import generator
from bench.generator import Run, WrongAnswer, join_chunks, measure, percentile
from bench.harness import call
from bench.workloads import (
    BULK_ROWS,
    READ_FIRST_ID,
    READ_ROWS,
    Bulks,
    Inserts,
    read_row,
    reads,
)


def make_table(server: Any) -> None:
    call(server.url, "/db/execute", ["CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT)"])


def measured(server: Any, source: Any, clients: int = 4) -> generator.Measurement:
    return measure(url=server.url, source=source, clients=clients, seconds=0.15, warmup=0.05)


def test_every_acknowledged_insert_is_in_the_table_once(server: Any) -> None:
    make_table(server)
    source = Inserts(server.url, "t")
    measurement = measured(server, source)
    (result,) = call(server.url, "/db/query", ["SELECT count(*), count(DISTINCT v) FROM t"])
    assert result["values"] == [[source.rows, source.rows]]
    assert measurement.acknowledged == source.rows
    assert 0 < measurement.requests <= measurement.acknowledged
    assert 0 < measurement.p50_ms <= measurement.p99_ms <= measurement.max_ms
    assert measurement.generator_cpu_us > 0


def test_a_bulk_request_inserts_a_thousand_distinct_rows(server: Any) -> None:
    make_table(server)
    source = Bulks(server.url, "t")
    measured(server, source, clients=2)
    (result,) = call(server.url, "/db/query", ["SELECT count(*), count(DISTINCT v) FROM t"])
    assert result["values"] == [[source.rows, source.rows]]
    assert source.rows % BULK_ROWS == 0


def test_chunked_answers_are_understood(server: Any) -> None:
    make_table(server)
    server.is_chunked = True
    source = Bulks(server.url, "t")
    measured(server, source, clients=2)
    assert source.rows > 0


def test_a_run_ends_when_there_are_enough_answers(server: Any) -> None:
    make_table(server)
    source = Inserts(server.url, "t")
    measurement = measure(url=server.url, source=source, clients=4, requests=30)
    assert 30 <= measurement.requests <= measurement.acknowledged == source.rows


@pytest.mark.slow
def test_marks_divide_the_answers_of_a_run(server: Any) -> None:
    make_table(server)
    run = Run(url=server.url, source=Inserts(server.url, "t"), clients=4)

    async def divided() -> generator.Measurement:
        measuring = asyncio.create_task(run.measure())
        for _ in range(2):
            await asyncio.wait([measuring], timeout=0.1)
            run.mark()
        run.stop()
        return await measuring

    measurement = asyncio.run(divided())
    begin, *_, end = run.marks
    slices = [run.between(one, other) for one, other in itertools.pairwise(run.marks)]
    assert len(slices) == 3
    assert sum(one.requests for one in slices) == measurement.requests
    assert sum(one.seconds for one in slices) == pytest.approx(measurement.seconds)
    assert max(one.max_ms for one in slices) == measurement.max_ms
    assert run.between(begin, end).p50_ms == measurement.p50_ms


def test_a_run_that_is_stopped_before_it_measures_has_no_result(server: Any) -> None:
    make_table(server)
    run = Run(url=server.url, source=Inserts(server.url, "t"), clients=2, warmup=0.05)

    async def stopped() -> None:
        measuring = asyncio.create_task(run.measure())
        await asyncio.sleep(0)
        run.stop()
        await measuring

    with pytest.raises(WrongAnswer, match="no answer within"):
        asyncio.run(stopped())


def make_read_table(server: Any) -> None:
    create = "CREATE TABLE r(id INTEGER PRIMARY KEY, name TEXT, share REAL, amount INT, note TEXT)"
    numbers = range(READ_FIRST_ID, READ_FIRST_ID + READ_ROWS)
    rows = [["INSERT INTO r VALUES(?,?,?,?,?)", *read_row(number)] for number in numbers]
    call(server.url, "/db/execute", [create, *rows])


def test_reads_get_the_row_they_asked_for(server: Any) -> None:
    make_read_table(server)
    assert measured(server, reads(server.url, "r", "none")).requests > 0


def test_reads_accept_more_keys_but_no_other_values(server: Any) -> None:
    make_read_table(server)
    server.spoil = lambda path, answer: {**answer, "time": 0.1}
    assert measured(server, reads(server.url, "r", "none")).requests > 0

    def other_row(path: str, answer: dict[str, Any]) -> dict[str, Any]:
        answer["results"][0]["values"][0][1] = "somebody else"
        return answer

    server.spoil = other_row
    with pytest.raises(WrongAnswer, match="somebody else"):
        measured(server, reads(server.url, "r", "none"))


@pytest.mark.parametrize(
    "answer",
    [
        {"results": []},
        {"results": [], "error": "leadership lost"},
        {"results": [{"error": "no such table: t"}]},
        {"results": [{"last_insert_id": 1}]},
        {"results": [{"last_insert_id": 1, "rows_affected": 2}]},
        {"results": [{"last_insert_id": 1, "rows_affected": 1}] * 2},
    ],
)
def test_a_wrong_answer_ends_the_run(server: Any, answer: dict[str, Any]) -> None:
    make_table(server)
    server.spoil = lambda path, _: answer
    with pytest.raises(WrongAnswer):
        measured(server, Inserts(server.url, "t"))


def test_a_repeated_rowid_ends_the_run(server: Any) -> None:
    make_table(server)
    same = {"results": [{"last_insert_id": 7, "rows_affected": 1}]}
    server.spoil = lambda path, _: same
    with pytest.raises(WrongAnswer, match="same last_insert_id"):
        measured(server, Inserts(server.url, "t"))


def test_another_status_ends_the_run(server: Any) -> None:
    make_table(server)
    server.status = 503
    with pytest.raises(WrongAnswer, match="503"):
        measured(server, Inserts(server.url, "t"))


def test_a_server_that_falls_silent_ends_the_run(
    server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Silent(Inserts):
        def next(self) -> tuple[bytes, int]:
            return super().next()[0][:-1], 0  # the server waits for the last byte

    monkeypatch.setattr(generator, "ANSWER_TIMEOUT", 0.5)
    monkeypatch.setattr(generator, "WATCH_INTERVAL", 0.1)
    with pytest.raises(WrongAnswer, match="no answer"):
        measured(server, Silent(server.url, "t"))


class Transport:
    def __init__(self) -> None:
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def abort(self) -> None:
        pass


class Seen:
    """A source that remembers the bodies it was given."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    def next(self) -> tuple[bytes, int]:
        return b"request", 0

    def check(self, data: bytes, body: int, expected: bytes | int) -> None:
        self.bodies.append(data[body:])

    def finish(self) -> None:
        pass


ANSWERS = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nRsqlite-Index: 3\r\n\r\nabcde",
    b"HTTP/1.1 200 OK\r\ncontent-length:5\r\n\r\nabcde",
    b"HTTP/1.1 200 OK\r\nX: y\r\nCONTENT-LENGTH:  5\r\n\r\nabcde",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n",
]


@pytest.mark.parametrize("answer", ANSWERS)
def test_answers_may_come_in_any_pieces(answer: bytes) -> None:
    source = Seen()
    run = Run(url="http://127.0.0.1:1", source=source, clients=1, seconds=1, warmup=0)
    connection = generator.Connection(run)
    connection.connection_made(Transport())  # type: ignore[arg-type]
    for cut in range(1, len(answer)):
        connection.data_received(answer[:cut])
        connection.data_received(answer[cut:])
    for at in range(len(answer)):
        connection.data_received(answer[at : at + 1])
    assert source.bodies == [b"abcde"] * len(answer)


def test_chunks_are_joined_only_when_all_are_there() -> None:
    data = b"4\r\nwiki\r\n0\r\n\r\n"
    assert [join_chunks(data[:end], 0) for end in range(len(data))] == [None] * len(data)
    assert join_chunks(data, 0) == b"wiki"


def test_percentiles() -> None:
    assert percentile([1.0, 2.0, 3.0, 4.0], 0.5) == 3.0
    assert percentile([1.0], 0.99) == 1.0
    assert percentile([], 0.5) == 0.0
