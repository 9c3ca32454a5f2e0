"""What `rsqlite upgrade` says: which release runs where, and what comes next."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rsqlite.cli.asking import Address, ask
from rsqlite.errors import Unavailable

PATH = "/upgrade"
NEXT_STEPS = (
    "Now, one node after the other, the leader last: stop it, start it with the newer release, and"
    " wait until --show calls it upgraded. The upgrade ends by itself when all are."
)


def read_state(address: Address, timeout_s: float) -> dict[str, Any]:
    """What the node at `address` knows; Unavailable if that is nothing."""
    value = ask(address, "GET", PATH, timeout_s=timeout_s)
    if not isinstance(value, dict) or not {"fingerprint", "to", "nodes"} <= set(value):
        raise Unavailable(f"what answers there is no node: {value}")
    return value


def explain(state: dict[str, Any]) -> Iterator[str]:
    """The state, line by line."""
    nodes, target = state["nodes"], state["to"]
    yield f"The cluster computes SQL as {state['fingerprint']}."
    if target is None:
        yield "No upgrade is declared."
        return
    left = [node["id"] for node in nodes if node["fingerprint"] != target]
    yield f"An upgrade to {target} is declared; {len(left)} of {len(nodes)} nodes are left:"
    width = max((len(node["id"]) for node in nodes), default=0)
    for node in nodes:
        words = ["older" if node["id"] in left else "upgraded"]
        words += [] if node["voter"] else ["read-only"]
        words += ["leader"] if node["leader"] else []
        words += [] if node["reachable"] else ["not reachable"]
        yield f"  {node['id']:{width}}  {', '.join(words)}"
