"""Nodes in this process, for the client: `rsqlite.connect(":memory:")`, a directory, or a `Node`.

A directory is opened once in a process, whoever asks for it: connections share the node, and the
last one that is closed stops it. Blocking connections have it on an event loop in a thread of its
own, asynchronous ones on the loop that opens it first. Node, SQLite and the rest are imported when
the first node is opened.
"""

from rsqlite_client.dbapi import Connector

from rsqlite.embedded.nodes import NODES

connect = Connector(NODES).connect

__all__ = ["NODES", "connect"]
