"""The `rsqlite` command: its groups and what they say. What `check` finds is in test_serve.py,
where there are nodes to look at."""

from __future__ import annotations

from click.testing import CliRunner

import rsqlite
from rsqlite.cli.main import main


def test_help_lists_the_commands() -> None:
    result = CliRunner().invoke(main, ["--help"])
    assert result.exit_code == 0
    assert "check" in result.output


def test_version_is_that_of_the_package() -> None:
    result = CliRunner().invoke(main, ["--version"])
    assert rsqlite.__version__ in result.output


def test_an_unknown_command_is_an_error() -> None:
    assert CliRunner().invoke(main, ["nothing"]).exit_code == 2
