"""Where to connect to: a URL with several hosts, a list of hosts, the environment, or a place for a
node in this process.

    http://h1:4001,h2:4001?read=weak&timeout=5     hosts of one cluster, and options
    ["h1:4001", "h2:4001"]                         the same as a list
    (nothing)                                      RSQLITE_URL says it
    :memory:                                       a node of its own, gone when it is closed
    /a/directory                                   a node that keeps its data there
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qsl

from rsqlite_client.errors import NotSupportedError, ProgrammingError
from rsqlite_client.proto import ReadLevel, level_of

URL_VARIABLE = "RSQLITE_URL"
MEMORY = ":memory:"
DEFAULT_PORT = 4001
DEFAULT_TIMEOUT_S = 30.0
"""For a statement as a whole, changes of the leader included."""
SECONDS_MAX = 30 * 86_400.0
"""Python's locks know no much longer time."""

_DURATION = re.compile(r"(\d+(?:\.\d*)?)(ms|s|m|h)?", re.ASCII)
_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, None: 1.0}
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(\d{1,5}))?", re.ASCII)
_LOOKS_LIKE_HOST = re.compile(r"[A-Za-z0-9._-]+:\d{1,5}(,.*)?", re.ASCII)

Target = str | os.PathLike[str] | Iterable[str] | None


@dataclass(frozen=True, slots=True)
class Options:
    """Where, and how. Either `hosts` or `path` is given."""

    hosts: tuple[str, ...] = ()
    path: str = ""
    timeout_s: float = DEFAULT_TIMEOUT_S
    level: ReadLevel = ReadLevel.WEAK
    freshness_s: float = 0.0


def options_of(
    target: Target,
    *,
    timeout: float | None = None,
    read: str | None = None,
    freshness: float | str | None = None,
    environment: Mapping[str, str] | None = None,
) -> Options:
    """What was asked for; ProgrammingError says what is wrong with it. Arguments win over a URL."""
    found = _from_target(target, os.environ if environment is None else environment)
    changes: dict[str, Any] = {}
    if timeout is not None:
        changes["timeout_s"] = _positive("timeout", seconds("timeout", timeout))
    if read is not None:
        changes["level"] = level_of(read)
    if freshness is not None:
        changes["freshness_s"] = seconds("freshness", freshness)
    return replace(found, **changes) if changes else found


def seconds(name: str, value: float | str) -> float:
    """A duration: seconds, or a text such as 250ms, 5s or 1m."""
    if isinstance(value, str):
        match = _DURATION.fullmatch(value)
        if match is None:
            raise ProgrammingError(f"{name} {value!r} is no duration such as 2.5, 250ms, 5s or 1m")
        value_s = float(match[1]) * _UNITS_S[match[2]]
    elif 0 <= value < float("inf"):
        value_s = float(value)
    else:
        raise ProgrammingError(f"{name} {value!r} is no number of seconds")
    if value_s > SECONDS_MAX:
        raise ProgrammingError(f"{name} {value!r} is over {SECONDS_MAX:.0f} s")
    return value_s


def _positive(name: str, value_s: float) -> float:
    if value_s <= 0:
        raise ProgrammingError(f"{name} must be above 0: it bounds each statement as a whole")
    return value_s


def _from_target(target: Target, environment: Mapping[str, str]) -> Options:
    if target is None:
        target = environment.get(URL_VARIABLE, "")
        if not target:
            raise ProgrammingError(f"connect to what? Pass a URL, or set {URL_VARIABLE}")
    if isinstance(target, os.PathLike):
        return Options(path=os.fspath(target))
    if isinstance(target, str):
        if "://" in target:
            return _from_url(target)
        if _LOOKS_LIKE_HOST.fullmatch(target):
            raise ProgrammingError(f"{target!r} is a path here; for hosts write http://{target}")
        if not target or target.startswith("file:"):
            raise NotSupportedError("a node is kept in a directory: pass its path, or :memory:")
        return Options(path=target)
    if isinstance(target, bytes) or not isinstance(target, Iterable):
        raise TypeError(f"cannot connect to a {type(target).__name__}")
    hosts: list[str] = []
    for one in target:
        if "://" in one:
            hosts += _from_url(one).hosts
        else:
            hosts.append(_host(one))
    if not hosts:
        raise ProgrammingError("no hosts were given")
    return Options(hosts=tuple(dict.fromkeys(hosts)))


def _from_url(url: str) -> Options:
    # Not urlsplit, which knows of one host.
    scheme, _, rest = url.partition("://")
    place, _, query = rest.partition("?")
    if scheme == "https":
        raise NotSupportedError("https is not there yet: nodes serve plain http")
    if scheme != "http":
        raise ProgrammingError(f"{url!r} is no http:// URL")
    if "@" in place:
        raise NotSupportedError("user and password in a URL: authentication is not there yet")
    place = place.removesuffix("/")
    if "/" in place or "#" in rest:
        raise ProgrammingError(f"{url!r} has more than hosts and options: http://h1:4001,h2:4001")
    hosts = tuple(dict.fromkeys(_host(one) for one in place.split(",")))
    found = Options(hosts=hosts)
    for name, value in parse_qsl(query, keep_blank_values=True):
        match name:
            case "timeout":
                found = replace(found, timeout_s=_positive(name, seconds(name, value)))
            case "read":
                found = replace(found, level=level_of(value))
            case "freshness":
                found = replace(found, freshness_s=seconds(name, value))
            case _:
                raise ProgrammingError(f"unknown option {name!r}: read, freshness and timeout")
    return found


def _host(text: str) -> str:
    match = _HOST.fullmatch(text.strip())
    if match is None or (match[2] is not None and not 0 < int(match[2]) < 65_536):
        raise ProgrammingError(f"{text!r} is no host such as db1.example:4001")
    return f"{match[1]}:{match[2] or DEFAULT_PORT}"
