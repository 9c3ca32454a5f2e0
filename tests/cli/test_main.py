"""The `rsqlite` command: its groups and what they say. What `check` finds is in test_serve.py,
where there are nodes to look at."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

import rsqlite
from rsqlite.cli.exits import Exit
from rsqlite.cli.main import main
from rsqlite.cli.serve import version_text
from rsqlite.cli.upgrading import explain
from rsqlite.statemachine.fingerprint import is_fingerprint
from rsqlite.storage.finding import REJOIN_ADVICE
from rsqlite.testing.engines import EngineCluster


def test_help_lists_the_commands() -> None:
    result = CliRunner().invoke(main, ["--help"])
    assert result.exit_code == 0
    assert "check" in result.output


@pytest.mark.parametrize("note", ["wants-image", "main.db.wants-image"])
def test_a_database_that_its_log_might_make_wrong_again_is_not_made_from_it(
    tmp_path: Path, note: str
) -> None:
    cluster = EngineCluster(tmp_path, 1, join="")
    engine = cluster.start()
    cluster.close()
    database = Path(engine.machine.path)
    (database.parent / "damaged").touch()
    result = CliRunner().invoke(main, ["check", engine.path])
    assert result.exit_code == Exit.DAMAGED
    assert result.output.endswith("makes the database anew from its log\n")
    if note.startswith(database.name):  # there was no room for another file
        database.rename(database.with_name(note))
    else:
        database.with_name(note).touch()
    result = CliRunner().invoke(main, ["check", engine.path])
    assert result.exit_code == Exit.DAMAGED
    assert result.output.endswith(f"{REJOIN_ADVICE}\n")


def test_version_is_that_of_the_package() -> None:
    result = CliRunner().invoke(main, ["--version"])
    assert rsqlite.__version__ in result.output


def test_the_fingerprint_is_that_of_the_nodes_that_this_release_starts() -> None:
    result = CliRunner().invoke(main, ["fingerprint"])
    assert is_fingerprint(result.output.removesuffix("\n"))
    assert result.output.strip() in version_text()


def test_only_one_thing_can_be_done_with_an_upgrade() -> None:
    for words in (["--abandon", "--show"], ["--to", "x", "--abandon"], ["--to", "x", "--show"]):
        result = CliRunner().invoke(main, ["upgrade", "localhost:1", *words])
        assert result.exit_code == 2
        assert "exclude each other" in result.output


def test_an_upgrade_is_explained_node_by_node() -> None:
    node = {"voter": True, "leader": False, "reachable": True}
    state = {
        "fingerprint": "a",
        "to": "b",
        "nodes": [
            {**node, "id": "1", "fingerprint": "a", "leader": True},
            {**node, "id": "22", "fingerprint": "b", "voter": False},
            {**node, "id": "3", "fingerprint": "a", "reachable": False},
        ],
    }
    assert list(explain(state)) == [
        "The cluster computes SQL as a.",
        "An upgrade to b is declared; 2 of 3 nodes are left:",
        "  1   older, leader",
        "  22  upgraded, read-only",
        "  3   older, not reachable",
    ]
    assert list(explain({**state, "to": None}))[1:] == ["No upgrade is declared."]


@pytest.mark.parametrize("command", ["verify", "vacuum", "upgrade"])
@pytest.mark.parametrize("timeout", ["nan", "inf", "0", "-1", "1e9", "soon"])
def test_a_timeout_is_a_time(command: str, timeout: str) -> None:
    result = CliRunner().invoke(main, [command, "--timeout", timeout, "localhost:1"])
    assert result.exit_code == 2
    assert "Invalid value for '--timeout'" in result.output


@pytest.mark.parametrize("command", ["verify", "vacuum", "upgrade"])
def test_what_is_no_url_is_told(command: str) -> None:
    result = CliRunner().invoke(main, [command, "http://[::1"])
    assert result.exit_code == 2
    assert "is not the address of a node" in result.output


def test_an_unknown_command_is_an_error() -> None:
    assert CliRunner().invoke(main, ["nothing"]).exit_code == 2
