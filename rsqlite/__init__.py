"""A replicated SQLite: several nodes hold the same database.

`rsqlite.Node` runs a node inside a Python program. Names are loaded when they are first used, so
that `import rsqlite` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rsqlite.config import Settings as Settings
    from rsqlite.errors import RsqliteError as RsqliteError
    from rsqlite.errors import SqlError as SqlError
    from rsqlite.node.node import Node as Node
    from rsqlite.server.app import HttpServer as HttpServer

__version__ = "0.1.0"

_HOMES = {
    "HttpServer": "rsqlite.server.app",
    "Node": "rsqlite.node.node",
    "RsqliteError": "rsqlite.errors",
    "Settings": "rsqlite.config",
    "SqlError": "rsqlite.errors",
}

__all__ = ["HttpServer", "Node", "RsqliteError", "Settings", "SqlError", "__version__"]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
