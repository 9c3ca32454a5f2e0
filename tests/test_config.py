"""The table of settings: its bounds, and the words for values outside them."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from rsqlite.config import Settings, address_problems


def test_the_defaults_are_fine() -> None:
    assert Settings().check() == []


def test_every_row_says_what_it_is_for() -> None:
    for one in dataclasses.fields(Settings):
        assert one.metadata["help"], one.name
        assert one.metadata["help"][0].isupper(), one.name
        if one.name.endswith(("_timeout", "_interval", "_time_max")):
            assert one.metadata["unit"] == "s", one.name


def test_every_setting_is_read_by_somebody() -> None:
    folder = Path(__file__).parent.parent / "rsqlite"
    code = "\n".join(
        path.read_text(encoding="utf-8")
        for path in folder.rglob("*.py")
        if path != folder / "config.py"
    )
    read = set(re.findall(r"\.(\w+)", code))
    assert {one.name for one in dataclasses.fields(Settings)} <= read


def test_a_value_outside_its_bounds_is_named_with_them() -> None:
    for one in dataclasses.fields(Settings):
        flag = "-" + one.name.replace("_", "-")
        for bound, step in (("minimum", -1), ("maximum", 1)):
            if (limit := one.metadata[bound]) is not None:
                beyond = type(one.default)(limit + step)
                problems = dataclasses.replace(Settings(), **{one.name: beyond}).check()
                assert any(flag in problem for problem in problems), (one.name, beyond)


def test_a_word_that_is_no_choice_is_named_with_the_choices() -> None:
    (problem,) = Settings(log_level="LOUD").check()
    assert problem == "-log-level 'LOUD' is none of DEBUG, INFO, WARN, ERROR"


def test_a_node_without_a_vote_forms_no_cluster() -> None:
    (problem,) = Settings(raft_non_voter=True, bootstrap_expect=3).check()
    assert (
        problem == "-raft-non-voter joins a cluster: leave out -bootstrap-expect, which forms one"
    )
    assert Settings(raft_non_voter=True, join="a:1").check() == []


def test_a_node_without_listeners_is_fine() -> None:
    assert Settings(http_addr="", raft_addr="").check() == []


@pytest.mark.parametrize(
    "address", ["localhost:4001", "127.0.0.1:0", "[::1]:65535", ":1", "a.b-c:80"]
)
def test_an_address_has_host_and_port(address: str) -> None:
    assert address_problems(address) == []


@pytest.mark.parametrize(
    "address", ["", "h", "h:", "h:x", "h:-1", "h:65536", "h:" + "9" * 5000, "::1:1", "http://h:1"]
)
def test_anything_else_is_refused(address: str) -> None:
    assert len(address_problems(address)) == 1


@pytest.mark.parametrize("address", ["h" * 300 + ":1", "h h:1", "h\r\n:1", "\xfc:1"])
def test_an_address_is_fit_for_a_header(address: str) -> None:
    assert len(address_problems(address)) == 1


@pytest.mark.parametrize("label", ["x" * 256, "a\nb", "\ud800"])
def test_a_label_can_be_printed_and_has_a_bound(label: str) -> None:
    (problem,) = Settings(node_id=label).check()
    assert problem.startswith("-node-id ")
