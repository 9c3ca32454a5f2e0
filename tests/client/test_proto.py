"""Commands as bytes, and bytes as results."""

from __future__ import annotations

import json
import math
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rsqlite_client.errors import IntegrityError, OperationalError
from rsqlite_client.proto import Command, Form, body_of, path_of, result_of, top_level_error
from rsqlite_client.statement import Statement

from rsqlite.request import Outcome, Rows
from rsqlite.server.compact import encode_compact, many_statements
from rsqlite.server.flags import parse_flags
from rsqlite.server.typed import typed_parameters


def command(sql: str, *rows: Any, form: Form = Form.ONE) -> Command:
    return Command(Statement(sql), form, rows or ((),))


def test_paths() -> None:
    assert path_of(command("SELECT 1")) == "/db/query?typed&compact"
    assert path_of(command("INSERT INTO t VALUES(1)")) == "/db/request?typed&compact"
    assert path_of(command("WITH x AS (SELECT 1) SELECT 1")) == "/db/request?typed&compact"
    assert path_of(command("SELECT 1", form=Form.SCRIPT)) == (
        "/db/request?typed&compact&transaction"
    )
    assert path_of(command("VACUUM")) == "/db/execute?typed&compact"
    assert path_of(command("x", form=Form.MANY)) == "/db/request?typed&compact&many"


def test_bodies() -> None:
    assert body_of(command("é ?", (1, "\u2028", None, 2.0))) == (
        '[["é ?",1,"\u2028",null,2.0]]'.encode()
    )
    script = Command(Statement(""), Form.SCRIPT, (), texts=["x", "y"])
    assert body_of(script) == b'["x","y"]'
    assert body_of(command("x", (1,), (2,), form=Form.MANY)) == b'["x",[1],[2]]'


@pytest.mark.parametrize(
    ("item", "columns", "changes", "is_read"),
    [
        ('{"last_insert_id":3,"rows_affected":2}', None, 2, False),
        ('{"columns":["a"],"decltypes":[null],"values":[]}', ["a"], 0, True),
        (
            '{"columns":["a"],"decltypes":["INT"],"values":[[1]],"last_insert_id":3,"rows_affected":1}',
            ["a"],
            1,
            False,
        ),
    ],
)
def test_results(item: str, columns: Any, changes: int, is_read: bool) -> None:
    result = result_of(f'{{"results":[{item}]}}'.encode())
    assert (result.columns, result.changes, result.is_read) == (columns, changes, is_read)
    assert result.lastrowid == (0 if is_read else 3)


def test_a_script_has_one_result() -> None:
    items = (
        '{"last_insert_id":3,"rows_affected":2},{"columns":["a"],"decltypes":[null],"values":[[1]]}'
    )
    result = result_of(f'{{"results":[{items}]}}'.encode())
    assert (result.lastrowid, result.changes, result.columns) == (3, 2, None)
    with pytest.raises(IntegrityError):
        result_of(f'{{"results":[{items},{{"error":"no","code":19,"name":"x"}}]}}'.encode())


def test_a_text_without_a_statement_has_an_empty_result() -> None:
    result = result_of(b'{"results":[]}')
    assert (result.columns, result.rows, result.changes) == (None, (), 0)


def test_a_failure_is_raised_with_its_code() -> None:
    body = b'{"results":[{"error":"no","code":2067,"name":"SQLITE_CONSTRAINT_UNIQUE"}]}'
    with pytest.raises(IntegrityError, match="no") as caught:
        result_of(body)
    assert caught.value.sqlite_errorname == "SQLITE_CONSTRAINT_UNIQUE"


def test_a_value_of_a_kind_that_is_not_known_is_no_result() -> None:
    body = (
        b'{"results":[{"columns":["a"],"decltypes":[null],"values":[[{"type":"date","value":1}]]}]}'
    )
    with pytest.raises(OperationalError, match="unknown type 'date'"):
        result_of(body)


def test_errors_of_whole_requests() -> None:
    assert top_level_error(b'{"results":[],"error":"stale read"}') == "stale read"
    assert top_level_error(b'{"results":[]}') is None
    assert top_level_error(b'{"results":[{"error":"x","code":1,"name":"y"}]}') is None


values = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(alphabet=st.characters(exclude_categories=["Cs"])),
    st.binary(),
)


def exact(row: Any) -> Any:
    return [
        (value, type(value), value and math.copysign(1, value))
        if type(value) is float
        else (value, type(value))
        for value in row
    ]


@given(st.lists(values, min_size=1))
def test_the_server_reads_the_parameters_that_were_sent(row: list[Any]) -> None:
    (item,) = orjson.loads(body_of(command("x", row)))
    assert exact(typed_parameters(item[1:])) == exact(row)
    _, (found,) = many_statements(body_of(command("x", row, form=Form.MANY)), 1)
    assert exact(found) == exact(row)


@given(st.lists(values, min_size=1))
def test_what_the_server_answers_is_what_it_had(row: list[Any]) -> None:
    names = [str(number) for number in range(len(row))]
    outcome = Outcome([Rows(names, list(names), [tuple(row)])])
    body = encode_compact(outcome, parse_flags("typed&compact"), 0.0)
    result = result_of(body)
    assert exact(result.rows[0]) == exact(row)
    assert (result.columns, result.decltypes) == (names, names)


def test_text_that_looks_like_a_tag_stays_text() -> None:
    text = json.dumps({"type": "blob", "base64": "AA"}, separators=(",", ":"))
    outcome = Outcome([Rows([text], [text], [(text, b"\0")])])
    body = encode_compact(outcome, parse_flags("typed&compact"), 0.0)
    assert result_of(body).rows == [(text, b"\0")]
