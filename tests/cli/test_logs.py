"""Log lines: fields as given, in JSON or for the eye."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from rsqlite.cli import logs


@pytest.fixture
def _root_logger_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)


pytestmark = pytest.mark.usefixtures("_root_logger_as_before")


def test_a_json_line_holds_event_fields_node_and_level() -> None:
    stream = io.StringIO()
    logs.set_up(level="INFO", form="json", node="n1", stream=stream)
    logging.getLogger("rsqlite.test").warning("%s happened", "it", extra={"index": 7, "raw": b"x"})
    line = json.loads(stream.getvalue())
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "it happened",
        "index": 7,
        "raw": "b'x'",
        "node": "n1",
        "level": "warning",
        "logger": "rsqlite.test",
    }


def test_an_exception_is_one_json_line_with_its_trace() -> None:
    stream = io.StringIO()
    logs.set_up(level="INFO", form="json", node="n1", stream=stream)
    try:
        raise ValueError("why")
    except ValueError:
        logging.getLogger("rsqlite.test").exception("failed")
    (line,) = stream.getvalue().splitlines()
    assert "ValueError: why" in json.loads(line)["exception"]


def test_lines_below_the_level_are_left_out() -> None:
    stream = io.StringIO()
    logs.set_up(level="ERROR", form="json", node="n1", stream=stream)
    logging.getLogger("rsqlite.test").warning("quiet")
    assert stream.getvalue() == ""


def test_auto_is_json_unless_a_person_looks_on() -> None:
    stream = io.StringIO()
    logs.set_up(level="INFO", form="auto", node="n1", stream=stream)
    logging.getLogger("rsqlite.test").info("hello")
    assert json.loads(stream.getvalue())["event"] == "hello"


def test_the_console_form_is_no_json_and_holds_the_fields() -> None:
    stream = io.StringIO()
    logs.set_up(level="INFO", form="console", node="n1", stream=stream)
    logging.getLogger("rsqlite.test").info("hello", extra={"index": 7})
    assert "hello" in stream.getvalue()
    assert "index=7" in stream.getvalue()
