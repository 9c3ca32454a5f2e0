"""From flags, environment and config file to `Settings`, with every mistake found reported at once.

Flags come as rqlited takes them, in Go's style: `-node-id 1`, `-node-id=1`, `--node-id 1`; a
boolean is `-fk` or `-fk=true|false`, never `-fk true`; flags end at the data directory, and
nothing may follow it. A flag wins over the environment (`RSQLITE_NODE_ID`), that over the config
file (TOML, `node-id = "1"`), that over the default.

Durations are Go's (`250ms`, `1m30s`) or plain seconds; sizes are bytes or `64MiB`.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from rsqlite.cli import rqlited_flags
from rsqlite.config import KIB, MIB, Settings
from rsqlite.server.durations import parse_duration

ENVIRONMENT_PREFIX = "RSQLITE_"
CONFIG_FLAG = "config"
SIZE_UNITS = {"": 1, "KIB": KIB, "MIB": MIB, "GIB": 1024 * MIB}
SIZE = re.compile(r"(\d{1,18}) ?(|[KMG]iB)", re.ASCII | re.IGNORECASE)


class Source(Enum):
    """Where a value was found, the strongest last."""

    DEFAULT = "default"
    FILE = "config file"
    ENVIRONMENT = "environment"
    FLAG = "flag"


@dataclass(frozen=True, slots=True)
class Option:
    """One row of `config.Settings`, as a command line knows it."""

    name: str
    """Of the field: `node_id`."""
    default: Any
    help: str
    unit: str
    choices: tuple[str, ...]

    @property
    def flag(self) -> str:
        return self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        return ENVIRONMENT_PREFIX + self.name.upper()

    @property
    def is_boolean(self) -> bool:
        return isinstance(self.default, bool)

    @property
    def is_duration(self) -> bool:
        return self.unit == "s"

    @property
    def is_size(self) -> bool:
        return isinstance(self.default, int) and "_bytes" in self.name

    @property
    def metavar(self) -> str:
        if self.choices:
            return "|".join(self.choices)
        if self.is_duration:
            return "TIME"
        if self.is_size:
            return "BYTES"
        return {bool: "", int: "N", float: "NUMBER", str: "TEXT"}[type(self.default)]

    def parse(self, text: str) -> Any:
        """The value that `text` stands for, or ValueError in words."""
        if self.is_boolean:
            return parse_boolean(text)
        if self.is_duration:
            return _parse_seconds(text)
        if self.is_size:
            return parse_size(text)
        if isinstance(self.default, str):
            return text
        kind = type(self.default)
        try:
            return kind(text)
        except ValueError:
            raise ValueError(f"{text!r} is not a number") from None

    def from_toml(self, value: object) -> Any:
        """The value that the config file gives, or ValueError in words."""
        if self.name == "join" and isinstance(value, list):
            return ",".join(str(one) for one in value)
        if isinstance(value, str):
            return self.parse(value)
        if isinstance(value, bool):
            if self.is_boolean:
                return value
        elif isinstance(value, int | float) and not isinstance(self.default, bool | str):
            return self.parse(str(value))
        expected = {bool: "a boolean", str: "a string"}.get(type(self.default), "a number")
        raise ValueError(f"{value!r} should be {expected}")

    def shown_default(self) -> str:
        """The default as one would write it on a command line."""
        if self.is_boolean:
            return str(self.default).lower()
        if self.is_duration:
            return _shown_duration(self.default)
        if self.is_size:
            return _shown_size(self.default)
        return str(self.default)


def options() -> tuple[Option, ...]:
    """The settings that have a flag, in the order of their table."""
    return tuple(
        Option(
            name=one.name,
            default=one.default,
            help=one.metadata["help"],
            unit=one.metadata["unit"],
            choices=one.metadata["choices"],
        )
        for one in dataclasses.fields(Settings)
        if one.metadata["flag"]
    )


@dataclass(slots=True)
class CommandLine:
    """A command line taken apart: raw texts by flag name, the last one of a repeated flag wins."""

    values: dict[str, str] = field(default_factory=dict)
    arguments: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Configuration:
    """What a node is to be started with. It may be used only when `problems` is empty."""

    settings: Settings
    sources: Mapping[str, Source]
    problems: tuple[str, ...]
    notes: tuple[str, ...]
    """Flags that were accepted and have no effect, in words."""


def read_flags(argv: Sequence[str], *, booleans: Iterable[str] = ()) -> CommandLine:
    """Take `argv` apart as Go's flag package does. `booleans` are flags beside those of the table
    that take no value (`help`, `version`)."""
    known = {one.flag: one.is_boolean for one in options()}
    known |= {CONFIG_FLAG: False, **dict.fromkeys(booleans, True)}
    known |= {name: flag.is_boolean for name, flag in rqlited_flags.FLAGS.items()}
    line = CommandLine()
    rest = list(argv)
    while rest and rest[0].startswith("-") and rest[0] != "-":
        word = rest.pop(0)
        if word == "--":
            break
        name, equals, value = word[2 if word.startswith("--") else 1 :].partition("=")
        if name not in known:
            line.problems.append(f"unknown flag -{name}{_did_you_mean(name, known, '-')}")
            if not equals and rest and not rest[0].startswith("-") and len(rest) > 1:
                rest.pop(0)  # most likely its value: one mistake, one line
        elif equals or known[name]:
            line.values[name] = value if equals else "true"
        elif rest:
            line.values[name] = rest.pop(0)
        else:
            line.problems.append(f"-{name} needs a value")
    line.arguments = rest
    return line


def configure(
    flags: Mapping[str, str], environment: Mapping[str, str], *, ignored: Iterable[str] = ()
) -> Configuration:
    """Settings from all sources. `ignored` are flags that are no settings."""
    problems: list[str] = []
    notes: list[str] = []
    values: dict[str, Any] = {}
    sources: dict[str, Source] = {}
    table = {one.flag: one for one in options()}

    path = flags.get(CONFIG_FLAG) or environment.get(ENVIRONMENT_PREFIX + CONFIG_FLAG.upper())
    if path:
        for name, value in _read_file(path, table, problems).items():
            values[name], sources[name] = value, Source.FILE
    for option in table.values():
        if option.variable in environment:
            _take(option, environment[option.variable], option.variable, values, problems)
            sources[option.name] = Source.ENVIRONMENT
    for name, text in flags.items():
        if name in table:
            _take(table[name], text, f"-{name}", values, problems)
            sources[table[name].name] = Source.FLAG
        elif name in rqlited_flags.FLAGS:
            problem, note = rqlited_flags.judge(name, text)
            problems += filter(None, [problem])
            notes += filter(None, [note])
        else:
            assert name == CONFIG_FLAG or name in ignored, name
    settings = Settings(**values)
    problems += settings.check()
    return Configuration(settings, sources, tuple(problems), tuple(notes))


def parse_boolean(text: str) -> bool:
    """As Go reads one. ValueError for anything else."""
    if text in ("1", "t", "T", "true", "TRUE", "True"):
        return True
    if text in ("0", "f", "F", "false", "FALSE", "False"):
        return False
    raise ValueError(f"{text!r} is neither true nor false")


def parse_size(text: str) -> int:
    """Bytes of a size such as `4096` or `64MiB`. ValueError for anything else."""
    if not (match := SIZE.fullmatch(text)):
        raise ValueError(f"{text!r} is not a size such as 4096, 64KiB or 1GiB")
    return int(match[1]) * SIZE_UNITS[match[2].upper()]


def _take(
    option: Option, text: str, where: str, values: dict[str, Any], problems: list[str]
) -> None:
    try:
        values[option.name] = option.parse(text)
    except ValueError as error:
        values.pop(option.name, None)
        problems.append(f"{where}: {error}")


def _read_file(path: str, table: Mapping[str, Option], problems: list[str]) -> dict[str, Any]:
    try:
        content = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        problems.append(f"-config: cannot read {path}: {error.strerror}")
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        problems.append(f"-config: {path} is not TOML: {error}")
        return {}
    values: dict[str, Any] = {}
    for key, value in content.items():
        option = table.get(key.replace("_", "-"))
        if option is None:
            problems.append(f"{path}: unknown setting {key}{_did_you_mean(key, table, '')}")
            continue
        try:
            values[option.name] = option.from_toml(value)
        except ValueError as error:
            problems.append(f"{path}: {key}: {error}")
    return values


def _did_you_mean(name: str, known: Iterable[str], prefix: str) -> str:
    near = difflib.get_close_matches(name.replace("_", "-"), list(known), 1)
    return f"; did you mean {prefix}{near[0]}?" if near else ""


def _parse_seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = parse_duration(text)
    if not math.isfinite(seconds):
        raise ValueError(f"{text!r} is not a duration")
    return seconds


def _shown_duration(seconds: float) -> str:
    milliseconds = round(seconds * 1000)
    return f"{milliseconds // 1000}s" if milliseconds % 1000 == 0 else f"{milliseconds}ms"


def _shown_size(size: int) -> str:
    for unit in ("GiB", "MiB", "KiB"):
        if size and size % SIZE_UNITS[unit.upper()] == 0:
            return f"{size // SIZE_UNITS[unit.upper()]}{unit}"
    return str(size)
