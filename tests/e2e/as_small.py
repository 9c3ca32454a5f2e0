"""Runs `rsqlited` with small files: log segments, WAL and memory of a size that a test fills in
seconds. In its place on the command line: `python as_small.py -m rsqlite.cli.serve [flags] DIR`."""

from __future__ import annotations

import sys

from rsqlite.cli import serve
from rsqlite.config import KIB, Settings

SIZES = {
    "segment_bytes": 128 * KIB,
    "log_prepare_step_bytes": 16 * KIB,
    "log_prepare_bytes_max": 32 * KIB,
    "log_cache_bytes_max": 64 * KIB,
    "checkpoint_wal_bytes": 256 * KIB,
    "checkpoint_rest_bytes": 64 * KIB,
    "page_cache_bytes": 256 * KIB,
}

if __name__ == "__main__":
    defaults = Settings.__init__.__kwdefaults__
    assert defaults is not None
    assert defaults.keys() >= SIZES.keys()
    defaults.update(SIZES)
    assert sys.argv[1:3] == ["-m", "rsqlite.cli.serve"]
    serve.main(sys.argv[3:])
