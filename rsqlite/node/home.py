"""Who else answers where this node is, or where the others believe that it is.

An address of its own that another node answers at would have the others take that one for it. And a
data directory that was copied makes two processes that are one member: they would vote twice, and
what only one of them has acknowledged would count for both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rsqlite.errors import ForeignDirectory, RsqliteError
from rsqlite.ports import Network
from rsqlite.raft.types import Member


class Home:
    """Of one node. `run` tells this process from another one of the same node; `is_twin` hears that
    there is one."""

    def __init__(
        self,
        network: Network,
        *,
        own: Callable[[], Member],
        run: str,
        is_twin: Callable[[RsqliteError], None],
    ) -> None:
        self._network = network
        self._own = own
        self._run = run
        self._is_twin = is_twin
        self.occupant: str | None = None
        """Who else answers at the address that this node tells the others; empty: nobody, None: it
        was not looked at."""

    def __repr__(self) -> str:
        return f"<Home occupant={self.occupant!r}>"

    def look(self, then: Callable[[], None]) -> None:
        """See who answers at our own address. Nobody may, where that address is known outside only.
        Once it was not another node, it is ours."""
        own = self._own()

        def identified(value: Mapping[str, Any] | None, error: BaseException | None) -> None:
            is_other = value is not None and str(value.get("node_id")) != str(own.node_id)
            label = value.get("label") if value is not None else ""
            self.occupant = f"node {label} answers at {own.raft_addr}" if is_other else ""
            then()

        if self.occupant == "":
            then()
        else:
            self._network.identify(own.raft_addr, identified)

    def look_for_twin(self, address: str, then: Callable[[], None]) -> None:
        """See who answers where the others believe this node to be, before they are told of another
        address. `then` is not called if it is this node once more."""
        own = self._own()

        def identified(value: Mapping[str, Any] | None, error: BaseException | None) -> None:
            is_own = value is not None and str(value.get("node_id")) == str(own.node_id)
            if value is None or not is_own or value.get("run") == self._run:
                then()
                return
            self._is_twin(
                ForeignDirectory(
                    f"this very node ({own.label}) runs at {address} already: was its data"
                    " directory copied? Move the copy away; with an empty directory and -join it"
                    " becomes a node of its own"
                )
            )

        if address in ("", own.raft_addr):
            then()
        else:
            self._network.identify(address, identified)
