"""Who leads although others are to lead before it hands over as soon as one of those can.

A leader that is ahead in a declared upgrade waits for a member that is not. One whose database can
serve nobody (it is lost, or differs from an entry) was elected because its log held what others
lacked: they get it, and one of them is to lead.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from rsqlite.raft.core import Raft
from rsqlite.raft.progress import ProgressView
from rsqlite.raft.types import Role

if TYPE_CHECKING:
    from rsqlite.node.engine import Engine

log = logging.getLogger(__name__)

PAUSE_S = 2.0
PAUSE_MAX_S = 300.0
"""Pauses between two attempts to hand over; each is twice the one before."""
TELL_PAUSE_S = 30.0
"""Pause between two lines about having nobody to hand over to."""

NOBODY = (
    "this node leads though its database can serve nobody, and no voter whose database is good has"
    " all that is committed: see what the others log"
)


class HandBack:
    """One node's. `sweep` is called a few times a second."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._next_attempt = 0.0
        self._pause_s = 0.0
        """The last one; none yet, or it is long over."""
        self._next_line = 0.0

    def __repr__(self) -> str:
        return f"<HandBack pause={self._pause_s}>"

    def sweep(self, now: float) -> None:
        """Hand over, if there is somebody."""
        core, driver = self._engine.core, self._engine.driver
        if core is None or driver is None or core.role is not Role.LEADER:
            return
        if not core.is_reluctant or not (core.is_ready or core.is_unfit):
            return
        if now < self._next_attempt:
            return
        able = [one for one in core.progress() if _is_able(core, one)]
        if able:
            self._next_line = 0.0
        elif core.is_unfit:
            self._tell(now)
        if not able or core.is_transferring:
            return
        # One that never takes over must not cost a pause of writes again and again.
        if now > self._next_attempt + PAUSE_MAX_S:
            self._pause_s = 0.0
        self._pause_s = min(max(PAUSE_S, 2 * self._pause_s), PAUSE_MAX_S)
        self._next_attempt = now + self._pause_s
        target = max(able, key=lambda one: one.match_index).node_id
        log.info("leadership goes to a member that is to lead first", extra={"to": target})
        driver.transfer_leadership(target)

    def _tell(self, now: float) -> None:
        """It takes a moment, or somebody has to see to it."""
        if now >= self._next_line:
            if self._next_line:
                log.error(NOBODY)
            self._next_line = now + TELL_PAUSE_S


def _is_able(core: Raft, one: ProgressView) -> bool:
    configuration = core.configuration
    first = configuration.voters if core.is_unfit else configuration.older_voters
    return (
        one.node_id in first
        and one.is_active
        and one.may_lead is not False
        and one.match_index >= core.commit_index
    )
