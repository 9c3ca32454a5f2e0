"""From flags, environment and file to settings: who wins, and what each mistake is told."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from rsqlite.cli.options import (
    Source,
    configure,
    options,
    parse_boolean,
    parse_size,
    read_flags,
)
from rsqlite.config import KIB, MIB, Settings


def settings_of(*argv: str, environment: dict[str, str] | None = None) -> Settings:
    line = read_flags(argv)
    configuration = configure(line.values, environment or {})
    assert not line.problems
    assert not configuration.problems
    return configuration.settings


def problems_of(*argv: str, environment: dict[str, str] | None = None) -> list[str]:
    line = read_flags(argv)
    return [*line.problems, *configure(line.values, environment or {}).problems]


@pytest.mark.parametrize(
    "argv",
    [
        ["-node-id", "one"],
        ["-node-id=one"],
        ["--node-id", "one"],
        ["--node-id=one"],
        ["-node-id", "two", "-node-id", "one"],
    ],
)
def test_flags_are_written_in_gos_style(argv: list[str]) -> None:
    assert settings_of(*argv, "dir").node_id == "one"


@pytest.mark.parametrize(
    ("word", "value"),
    [("-fk", True), ("--fk", True), ("-fk=true", True), ("-fk=1", True), ("-fk=false", False)],
)
def test_a_boolean_flag_takes_its_value_only_after_an_equals_sign(word: str, value: bool) -> None:
    line = read_flags([word, "true"])
    assert line.arguments == ["true"]
    assert configure(line.values, {}).settings.fk is value


def test_flags_end_at_the_data_directory() -> None:
    line = read_flags(["-node-id", "1", "dir", "-fk"])
    assert line.values == {"node-id": "1"}
    assert line.arguments == ["dir", "-fk"]


def test_flags_end_at_two_dashes() -> None:
    line = read_flags(["-fk", "--", "-strange-name"])
    assert line.arguments == ["-strange-name"]


def test_a_value_may_look_like_a_flag() -> None:
    assert read_flags(["-node-id", "-fk", "dir"]).values == {"node-id": "-fk"}


def test_every_row_of_the_table_has_a_flag_a_variable_and_a_parsable_default() -> None:
    for option in options():
        shown = option.shown_default()
        assert option.parse(shown) == option.default, option.name
        assert option.help


def test_a_flag_wins_over_the_environment_over_the_file_over_the_default(tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text('node-id = "file"\nhttp_addr = "file:1"\nraft-addr = "file:2"\n')
    line = read_flags(["-config", str(file), "-node-id", "flag"])
    environment = {"RSQLITE_NODE_ID": "environment", "RSQLITE_HTTP_ADDR": "environment:1"}
    configuration = configure(line.values, environment)
    assert configuration.problems == ()
    settings = configuration.settings
    assert (settings.node_id, settings.http_addr) == ("flag", "environment:1")
    assert (settings.raft_addr, settings.rows_max) == ("file:2", Settings().rows_max)
    assert configuration.sources == {
        "node_id": Source.FLAG,
        "http_addr": Source.ENVIRONMENT,
        "raft_addr": Source.FILE,
    }


def test_the_config_file_has_toml_types(tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text(
        "fk = true\nread-time-max = 2\nwrite-time-max = '1m30s'\nbody-bytes-max = '2MiB'\n"
        "bootstrap-expect = 3\njoin = ['a:1', 'b:2']\n"
    )
    settings = settings_of("-config", str(file))
    assert (settings.fk, settings.read_time_max, settings.write_time_max) == (True, 2.0, 90.0)
    assert (settings.body_bytes_max, settings.bootstrap_expect) == (2 << 20, 3)
    assert settings.join == "a:1,b:2"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("fk = 1", "fk: 1 should be a boolean"),
        ("fk = 'perhaps'", "fk: 'perhaps' is neither true nor false"),
        ("node-id = 1", "node-id: 1 should be a string"),
        ("rows-max = true", "rows-max: True should be a number"),
        ("rows-max = 1.5", "rows-max: '1.5' is not a number"),
        ("row-max = 1", "unknown setting row-max; did you mean rows-max?"),
        ("segment_bytes = 65536", "unknown setting segment_bytes"),
        ("fk = ", "is not TOML"),
        ("fk = " + "[" * 100_000, "is not TOML"),
    ],
)
def test_a_mistake_in_the_file_is_named(tmp_path: Path, content: str, problem: str) -> None:
    file = tmp_path / "node.toml"
    file.write_text(content)
    (found,) = problems_of("-config", str(file))
    assert problem in found


def test_a_config_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    (found,) = problems_of("-config", str(tmp_path / "none.toml"))
    assert "No such file" in found


@pytest.mark.parametrize(
    ("argv", "problem"),
    [
        (["-rows-maxx", "1"], "unknown flag -rows-maxx; did you mean -rows-max?"),
        (["-zzz"], "unknown flag -zzz"),
        (["-node-id"], "-node-id needs a value"),
        (["-rows-max", "many"], "-rows-max: 'many' is not a number"),
        (["-read-time-max", "5 minutes"], "-read-time-max: '5 minutes' is not a duration"),
        (["-read-time-max", "nan"], "-read-time-max: 'nan' is not a duration"),
        (["-body-bytes-max", "64MB"], "-body-bytes-max: '64MB' is not a size"),
        (["-fk=maybe"], "-fk: 'maybe' is neither true nor false"),
        (["-log-level", "LOUD"], "-log-level 'LOUD' is none of"),
        (["-rows-max", "0"], "-rows-max 0 is below 1"),
        (["-http-addr", "http://h:1"], "-http-addr http://h:1 has a scheme"),
        (["-http-addr", "h"], "-http-addr 'h' is no HOST:PORT"),
        (["-raft-addr", "::1:1"], "-raft-addr '::1:1' is no HOST:PORT"),
        (["-raft-addr", "h:65536"], "-raft-addr 'h:65536' has no port"),
        (["-join", "a:1,b"], "-join 'b' is no HOST:PORT"),
        (["-raft-addr", "0.0.0.0:1"], "give them an address with -raft-adv-addr"),
        (["-http-addr", ":1"], "give them an address with -http-adv-addr"),
        (["-http-addr", "h:1", "-raft-addr", "h:1"], "must differ"),
    ],
)
def test_a_mistake_on_the_command_line_is_named(argv: list[str], problem: str) -> None:
    (found,) = problems_of(*argv)
    assert problem in found


def test_a_wildcard_address_is_fine_with_one_that_others_can_reach() -> None:
    settings = settings_of("-raft-addr", "0.0.0.0:2", "-raft-adv-addr", "h:2", "dir")
    assert settings.raft_adv_addr == "h:2"


def test_all_mistakes_are_reported_at_once() -> None:
    found = problems_of("-zzz", "-fk=x", "-rows-max", "0", environment={"RSQLITE_JOIN": "nowhere"})
    assert len(found) == 4


def test_a_mistake_in_the_environment_names_the_variable() -> None:
    (found,) = problems_of(environment={"RSQLITE_ROWS_MAX": "x"})
    assert found == "RSQLITE_ROWS_MAX: 'x' is not a number"


def test_other_variables_are_left_alone() -> None:
    # Kubernetes sets such ones for a service named rsqlite.
    environment = {"RSQLITE_PORT": "tcp://10.0.0.1:4001", "RSQLITE_SERVICE_HOST": "10.0.0.1"}
    assert settings_of(environment=environment) == Settings()


def test_every_setting_can_be_given_as_a_flag_and_reaches_its_field() -> None:
    for option in options():
        if option.is_boolean:
            words, value = [f"-{option.flag}"], True
        elif option.choices:
            words, value = [f"-{option.flag}", option.choices[-1]], option.choices[-1]
        elif isinstance(option.default, str):
            words, value = [f"-{option.flag}", "h:7"], "h:7"
        else:
            value = option.default + 1
            words = [f"-{option.flag}", str(value)]
        line = read_flags(words)
        settings = configure(line.values, {}).settings
        assert settings == dataclasses.replace(Settings(), **{option.name: value})


@pytest.mark.parametrize("text", ["yes", "", "TrUe", "2"])
def test_a_boolean_is_what_go_takes_for_one(text: str) -> None:
    with pytest.raises(ValueError, match="neither true nor false"):
        parse_boolean(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("4096", 4096), ("64KiB", 64 * KIB), ("2 mib", 2 * MIB), ("1GiB", 1024 * MIB)],
)
def test_a_size_is_bytes_or_has_a_unit(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "1.5MiB", "64MB", "-1", "KiB", "9" * 19])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        parse_size(text)
