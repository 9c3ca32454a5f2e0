"""Structured logs: one line for each event on standard error, as JSON or for the eye.

All parts log through the standard library's `logging`, so that an embedded node logs where its
program wants it; only a process of ours, here, decides on the form. Fields are given with
`extra={…}` and come out as fields of the line.

`structlog` makes the lines for the eye. A service writes JSON, and does without: its start would
wait a tenth of a second for the import.
"""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from typing import Any, TextIO

import orjson

LEVELS = {"DEBUG": 10, "INFO": 20, "WARN": 30, "ERROR": 40}
_KNOWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
"""What every record has; all else was given with `extra`."""


def set_up(*, level: str, form: str, node: str, stream: TextIO | None = None) -> None:
    """Send every log line of this process to `stream` (standard error), with the node's label.
    `form` is json, console, or auto: console on a terminal."""
    stream = stream or sys.stderr
    if form == "auto":
        form = "console" if stream.isatty() else "json"
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines(node) if form == "json" else _for_the_eye(node, stream))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(LEVELS[level])
    # One line for each request would cost more than the request; counters are in /debug/vars.
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
    logging.captureWarnings(True)


class JsonLines(logging.Formatter):
    """A record as one line of JSON."""

    def __init__(self, node: str) -> None:
        super().__init__()
        self._node = node

    def format(self, record: logging.LogRecord) -> str:
        """The event first, then what was given with it."""
        fields: dict[str, Any] = {
            "event": record.getMessage(),
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        for name, value in vars(record).items():
            if name not in _KNOWN:
                fields.setdefault(name, value)
        at = datetime.fromtimestamp(record.created, UTC)
        fields["timestamp"] = at.isoformat(timespec="microseconds").replace("+00:00", "Z")
        fields["node"] = self._node
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            fields["stack"] = self.formatStack(record.stack_info)
        return orjson.dumps(fields, default=repr, option=orjson.OPT_NON_STR_KEYS).decode()


def _for_the_eye(node: str, stream: TextIO) -> logging.Formatter:
    import structlog

    def add_node(logger: object, method: str, event: Any) -> Any:
        event["node"] = node
        return event

    formatter = structlog.stdlib.ProcessorFormatter
    return formatter(
        foreign_pre_chain=[
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ExtraAdder(),
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            add_node,
        ],
        processors=[
            formatter.remove_processors_meta,
            structlog.dev.ConsoleRenderer(colors=stream.isatty()),
        ],
    )
