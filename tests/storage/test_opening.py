"""Power losses, kills and failing calls at any moment: what was acknowledged is there."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable

import pytest

from rsqlite.errors import DiskFault
from rsqlite.raft.types import Entry, HardState, NodeId, Term
from rsqlite.testing.disk import RamDisk
from tests.storage.rig import Rig, entry

State = tuple[tuple[Entry, ...], HardState]


class Model:
    """What the log may hold: any state between the last acknowledged change and the last given.

    The entries of one change may be there in part, as a prefix; its hard state may be there before
    them, and that of a later change too, never the other way round.
    """

    def __init__(self) -> None:
        self.logs: list[tuple[Entry, ...]] = [()]
        self.hard_states = [HardState()]
        self.acknowledged_log = 0
        self.acknowledged_hard_state = 0
        self.ends: dict[int, tuple[int, int]] = {}

    def give(
        self,
        number: int,
        new: list[Entry],
        truncate_from: int | None,
        hard_state: HardState | None,
    ) -> None:
        if truncate_from is not None:
            self.logs.append(self.logs[-1][: truncate_from - 1])
        for one in new:
            self.logs.append((*self.logs[-1], one))
        if hard_state is not None:
            self.hard_states.append(hard_state)
        self.ends[number] = (len(self.logs) - 1, len(self.hard_states) - 1)

    def acknowledge(self, number: int) -> None:
        self.acknowledged_log, self.acknowledged_hard_state = self.ends[number]

    def check(self, content: list[Entry], hard_state: HardState) -> None:
        assert tuple(content) in self.logs[self.acknowledged_log :]
        assert hard_state in self.hard_states[self.acknowledged_hard_state :]
        assert not content or content[-1].term <= hard_state.term

    def adopt(self, content: list[Entry], hard_state: HardState) -> None:
        """What a start found is durable from now on."""
        self.__init__()  # type: ignore[misc]
        self.logs = [tuple(content)]
        self.hard_states = [hard_state]


class Story:
    """A random life of a log: appends, votes, truncations, several at once."""

    def __init__(self, rig: Rig, model: Model, chance: random.Random) -> None:
        self.rig = rig
        self.model = model
        self.chance = chance
        self.term = 1

    def change(self) -> None:
        """Give one change to the log."""
        chance, log = self.chance, self.rig.log
        truncate_from = voted_for = None
        term = None
        if chance.random() < 0.3 or log.hard_state.term == 0:
            self.term = log.hard_state.term + 1
            term, voted_for = self.term, chance.choice((None, 3, 5))
        if chance.random() < 0.2 and log.last_index:
            truncate_from = chance.randint(max(1, log.last_index - 12), log.last_index)
        first = (log.last_index + 1) if truncate_from is None else truncate_from
        current = term or log.hard_state.term
        new = [
            entry(first + n, current, chance.randbytes(chance.choice((0, 5, 60, 700))))
            for n in range(chance.choice((0, 1, 1, 3)))
        ]
        hard_state = None
        if term is not None:
            hard_state = HardState(Term(term), None if voted_for is None else NodeId(voted_for))
        number = self.rig.submit(new, truncate_from=truncate_from, term=term, voted_for=voted_for)
        self.model.give(number, new, truncate_from, hard_state)

    def live(self, changes: int) -> None:
        """Make changes, some of them together, and note which were acknowledged."""
        heard = len(self.rig.answers)
        while changes > 0:
            together = self.chance.choice((1, 1, 1, 2, 5))
            for _ in range(together):
                self.change()
            changes -= together
            self.rig.loop.run()
        self.note(heard)

    def note(self, heard: int) -> None:
        failed = False
        for number, error in self.rig.answers[heard:]:
            failed = failed or error is not None
            if not failed:
                self.model.acknowledge(number)
            else:
                assert isinstance(error, DiskFault)


def settle(rig: Rig, model: Model) -> None:
    """Start, and check what is there."""
    log = rig.open()
    content = rig.content()
    model.check(content, log.hard_state)
    model.adopt(content, log.hard_state)


@pytest.mark.parametrize("seed", range(40))
def test_a_power_loss_at_any_moment_loses_nothing_acknowledged(seed: int) -> None:
    chance = random.Random(seed)
    rig, model = Rig(), Model()
    rig.open()
    story = Story(rig, model, chance)
    for _ in range(5):
        story.live(chance.randint(1, 15))
        heard = len(rig.answers)
        # Some more changes are under way: given, perhaps being written, never answered.
        for _ in range(chance.randint(0, 4)):
            story.change()
        stop_at = chance.randint(1, 30)
        rig.disk.fail_nth_call(stop_at, errno.EIO, once=False)
        rig.loop.run()
        rig.disk.stop_failing()
        story.note(heard)
        how = chance.choice((rig.disk.kill, rig.disk.power_loss, lambda: None))
        how()
        if how is not rig.disk.kill:
            rig.disk.power_loss(chance)
        rig.loop = type(rig.loop)()
        settle(rig, model)
        if chance.random() < 0.5:
            # What a start answered for is durable, also after a failed sync before it.
            rig.disk.power_loss(chance if chance.random() < 0.5 else None)
            settle(rig, model)


def scenario(rig: Rig, model: Model) -> None:
    """Fifty changes with truncations, votes and several segments; then a clean stop."""
    rig.open()
    story = Story(rig, model, random.Random(4))
    story.live(50)
    rig.log.close()
    rig.loop.run()


def calls_of_scenario() -> int:
    rig = Rig()
    before = rig.disk.calls
    scenario(rig, Model())
    segments = [name for name in rig.disk.files() if name.endswith(".log")]
    assert len(segments) >= 8
    return rig.disk.calls - before


def sweep(once: bool, number: int, short: bool, crash: Callable[[RamDisk], None]) -> int:
    """Fail each call in turn; how many of the runs failed."""
    failures = 0
    for n in range(1, calls_of_scenario() + 1):
        rig, model = Rig(), Model()
        rig.disk.fail_nth_call(n, number, once=once, short=short)
        try:
            scenario(rig, model)
        except DiskFault:
            failures += 1
        assert rig.disk.failed_call is not None
        failures += any(error is not None for _, error in rig.answers)
        rig.disk.stop_failing()
        crash(rig.disk)
        rig.loop = type(rig.loop)()
        settle(rig, model)
        rig.disk.power_loss()
        settle(rig, model)
    return failures


@pytest.mark.slow
@pytest.mark.parametrize("once", [True, False])
@pytest.mark.parametrize(
    ("number", "short"),
    [(errno.EIO, False), (errno.ENOSPC, False), (errno.ENOSPC, True)],
)
@pytest.mark.parametrize("crash", [RamDisk.kill, RamDisk.power_loss])
def test_any_failing_call_ends_the_log_and_loses_nothing_acknowledged(
    once: bool, number: int, short: bool, crash: Callable[[RamDisk], None]
) -> None:
    """Exhaustive: every call of the scenario, once and for ever, then a kill or a power loss, a
    start, a power loss and a start."""
    assert sweep(once, number, short, crash) > 100


@pytest.mark.slow
def test_a_crash_at_any_call_of_a_start_is_mended_by_the_next() -> None:
    """A fault during recovery of another: torn tail, prepared segment, old marks."""
    chance = random.Random(8)
    for _ in range(6):
        rig, model = Rig(), Model()
        rig.open()
        story = Story(rig, model, chance)
        story.live(12)
        story.change()
        rig.disk.fail_nth_call(chance.randint(1, 4), errno.EIO, once=False)
        heard = len(rig.answers)
        rig.loop.run()
        story.note(heard)
        rig.disk.stop_failing()
        rig.disk.power_loss(chance)
        content = rig.disk.files()
        n = 0
        while True:
            n += 1
            rig.disk = RamDisk.from_files(content)
            rig.disk.fail_nth_call(n, errno.EIO, once=False)
            rig.loop = type(rig.loop)()
            try:
                rig.open()
            except DiskFault:
                pass
            if rig.disk.failed_call is None:
                break
            rig.disk.stop_failing()
            rig.disk.power_loss(chance)
            log = rig.open()
            model.check(rig.content(), log.hard_state)
        assert n > 10
