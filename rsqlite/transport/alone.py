"""The network of a node that has no raft address."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from rsqlite.ports import Done
from rsqlite.transport.peer import LinkStatus

_NO_ADDRESS = "this node has no raft address"


class NoNetwork:
    """The network of a node without a raft address: it listens to nobody and reaches nobody."""

    address = ""

    def __init__(self) -> None:
        self._members: dict[int, str] = {}

    async def stop(self) -> None:
        """Nothing to stop."""

    def connect(self, addresses: Mapping[int, str]) -> None:
        """Remember them, to say in `links` why they are out of reach."""
        self._members = dict(addresses)

    def send(
        self, target: int, frame: bytes, *, urgent: bool = False, patient: bool = False
    ) -> bool:
        """Always dropped."""
        return False

    def identify(self, address: str, done: Done[Mapping[str, object]]) -> None:
        """Nobody can be asked."""
        done(None, ConnectionError(_NO_ADDRESS))

    def ask(
        self,
        address: str,
        question: Mapping[str, object],
        done: Done[Mapping[str, object]],
        *,
        timeout_s: float,
    ) -> None:
        """Nobody can be asked."""
        done(None, ConnectionError(_NO_ADDRESS))

    def fetch(
        self,
        address: str,
        name: str,
        done: Done[bytes],
        *,
        timeout_s: float,
        heard: Callable[[], None],
    ) -> None:
        """Nobody can be asked."""
        done(None, ConnectionError(_NO_ADDRESS))

    def links(self) -> tuple[LinkStatus, ...]:
        """All of them closed."""
        return tuple(
            LinkStatus(
                node_id=node_id,
                address=address,
                is_connected=False,
                is_heard=False,
                contact_age_s=None,
                waiting_bytes=0,
                dropped=0,
                opened=0,
                error=_NO_ADDRESS,
            )
            for node_id, address in sorted(self._members.items())
        )
