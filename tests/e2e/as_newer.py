"""Runs `rsqlited` as a release with another fingerprint would, and as nothing else: in its place on
the command line, `python as_newer.py -m rsqlite.cli.serve [flags] DATA_DIR`."""

from __future__ import annotations

import sys

import apsw

from rsqlite.cli import serve
from rsqlite.statemachine import fingerprint, machine

FINGERPRINT = f"1-sqlite-{apsw.sqlite_lib_version()}-{'f' * 24}"


def newer_fingerprint(connection: apsw.Connection) -> str:
    return FINGERPRINT


if __name__ == "__main__":
    for module in (fingerprint, machine):
        vars(module)["fingerprint"] = newer_fingerprint
    assert sys.argv[1:3] == ["-m", "rsqlite.cli.serve"]
    serve.main(sys.argv[3:])
