"""Structured logs: one line for each event on standard error, as JSON or for the eye.

All parts log through the standard library's `logging`, so that an embedded node logs where its
program wants it; only a process of ours, here, decides on the form. Fields are given with
`extra={…}` and come out as fields of the line.
"""

from __future__ import annotations

import logging
import sys
from typing import TextIO

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

LEVELS = {"DEBUG": 10, "INFO": 20, "WARN": 30, "ERROR": 40}


def set_up(*, level: str, form: str, node: str, stream: TextIO | None = None) -> None:
    """Send every log line of this process to `stream` (standard error), with the node's label.
    `form` is json, console, or auto: console on a terminal."""
    stream = stream or sys.stderr
    if form == "auto":
        form = "console" if stream.isatty() else "json"

    def add_node(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        event["node"] = node
        return event

    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        add_node,
    ]
    last: list[Processor]
    if form == "json":
        last = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(_json)]
    else:
        last = [structlog.dev.ConsoleRenderer(colors=stream.isatty())]
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(LEVELS[level])
    # One line for each request would cost more than the request; counters are in /debug/vars.
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
    logging.captureWarnings(True)


def _json(event: EventDict, **_: object) -> str:
    return orjson.dumps(event, default=repr, option=orjson.OPT_NON_STR_KEYS).decode()
