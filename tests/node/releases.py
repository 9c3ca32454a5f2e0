"""Releases that compute SQL as this one does, and say that they do not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rsqlite.node.engine import Engine
from rsqlite.raft.types import Configuration
from rsqlite.request import Outcome
from rsqlite.statemachine.machine import StateMachine
from rsqlite.testing.engines import EngineCluster, execute

OLD = f"1-sqlite-3.54.1-{'a' * 24}"
NEW = f"1-sqlite-3.55.0-{'b' * 24}"
OTHER = f"1-sqlite-3.55.0-{'c' * 24}"
LATER = f"2-sqlite-3.55.0-{'d' * 24}"
"""Of behaviour 2."""


def release(
    fingerprint: str, *, behaviour: int = 1, dress: Callable[[StateMachine], None] | None = None
) -> type[StateMachine]:
    """The state machine of a release with this fingerprint. `dress` makes it differ for real."""

    class Release(StateMachine):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self.fingerprint = fingerprint
            self.newest_behaviour = behaviour
            if dress is not None:
                dress(self)

    return Release


def configuration_of(engine: Engine) -> Configuration:
    """The one in force, as this node knows it."""
    assert engine.core is not None
    return engine.core.configuration


def is_ahead(engine: Engine) -> bool:
    """Whether it is of the newer side of a declared upgrade."""
    upgrade = configuration_of(engine).upgrade
    return upgrade is not None and engine.machine.fingerprint == upgrade.target


class Load:
    """Writes one number after the other, through whichever node runs, and remembers which were
    acknowledged. `tick` is called as time passes."""

    def __init__(self, cluster: EngineCluster) -> None:
        self.cluster = cluster
        self.acknowledged: list[int] = []
        self._waiting: dict[int, list[Any]] = {}
        self._count = 0

    def tick(self) -> None:
        """Take the answers that came, and send the next write."""
        for number, answers in list(self._waiting.items()):
            if answers:
                del self._waiting[number]
                if isinstance(answers[0], Outcome):
                    self.acknowledged.append(number)
        running = [one for one in self.cluster.running() if one.fault is None]
        if running and len(self._waiting) < 4:
            self._count += 1
            engine = running[self._count % len(running)]
            request = execute(f"INSERT INTO t(id) VALUES({self._count})", timeout_s=5.0)
            self._waiting[self._count] = self.cluster.ask(engine, request)

    def until(self, holds: Callable[[], bool], seconds: float = 20.0) -> None:
        """Go on until `holds()`, and until something more is acknowledged."""
        before = len(self.acknowledged)

        def ticked() -> bool:
            self.tick()
            return holds() and len(self.acknowledged) > before

        self.cluster.until(ticked, seconds)

    def check(self) -> None:
        """Nothing that was acknowledged is lost, and all nodes hold the same."""
        cluster = self.cluster
        cluster.until(lambda: self._is_quiet(), 20.0)
        found = [cluster.rows(engine, "SELECT id FROM t") for engine in cluster.running()]
        assert all(rows == found[0] for rows in found)
        assert set(self.acknowledged) <= {number for (number,) in found[0]}
        assert self.acknowledged

    def _is_quiet(self) -> bool:
        for number, answers in list(self._waiting.items()):
            if answers:
                del self._waiting[number]
                if isinstance(answers[0], Outcome):
                    self.acknowledged.append(number)
        return not self._waiting
