"""Nodes in this process, for the client: `rsqlite.connect(":memory:")`, a directory, or a `Node`.

A directory is opened once in a process, whoever asks for it: connections share the node, and the
last one that is closed stops it. Blocking connections have it on an event loop in a thread of its
own, asynchronous ones on the loop that opens it first.

Who connects to hosts pays for none of this: what nodes need, the event loop included, is imported
when the first node is opened.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rsqlite_client.dbapi import Connector
from rsqlite_client.dsn import Options

if TYPE_CHECKING:
    from rsqlite_client.local import AsyncLocalChannel, LocalChannel


class LocalNodes:
    """How the client's connectors come to nodes."""

    def owns(self, target: object) -> bool:
        """Is it a node? (If nobody has imported them, it is none.)"""
        module = sys.modules.get("rsqlite.node.node")
        return module is not None and isinstance(target, module.Node)

    def open(self, target: object, options: Options) -> LocalChannel:
        """For a blocking connection: to a node, or to the one on the directory of the options."""
        from rsqlite.embedded.nodes import NODES

        return NODES.open(target if self.owns(target) else None, options)

    async def open_async(self, target: object, options: Options) -> AsyncLocalChannel:
        """For a connection on the running loop."""
        from rsqlite.embedded.nodes import NODES

        return await NODES.open_async(target if self.owns(target) else None, options)


LOCAL_NODES = LocalNodes()
connect = Connector(LOCAL_NODES).connect

__all__ = ["LOCAL_NODES", "LocalNodes", "connect"]
