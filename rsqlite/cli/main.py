"""`rsqlite`: the command for people. `rsqlite check DIR` looks at a stopped node's files."""

from __future__ import annotations

import sys
from pathlib import Path

import click

import rsqlite
from rsqlite.cli.exits import Exit


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(rsqlite.__version__, prog_name="rsqlite")
def main() -> None:
    """Work with rsqlite, the replicated SQLite. The server is `rsqlited`."""


@main.command()
@click.argument("directory", type=click.Path(path_type=Path))
def check(directory: Path) -> None:
    """Verify the files of a stopped node: identity, hard state, log and database.

    Changes nothing. Prints a line for each finding; the exit code is 0 when all is well, and that
    of rsqlited for the same fault when it is not.
    """

    if not directory.is_dir():
        click.echo(f"rsqlite: {directory} is no directory", err=True)
        sys.exit(Exit.USAGE)
    raise NotImplementedError


if __name__ == "__main__":
    main()
