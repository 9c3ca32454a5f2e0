"""Long reads that overlap let a checkpoint pass between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from rsqlite.errors import Overloaded, RsqliteError, Stopped
from rsqlite.request import Outcome
from rsqlite.statemachine.image import ImageUnwritten
from rsqlite.statemachine.opening import PAGE_BYTES
from tests.statemachine.lab import QUERY, SERIES, Lab, ask, read

FILL = "INSERT INTO t VALUES(zeroblob(50000))"
LONG = ask(SERIES.format(100_000) + "SELECT count(*), (SELECT count(*) FROM t) FROM c", kind=QUERY)
HELD_MAX_S = 5.0

Answers = list[Outcome | RsqliteError]


class Threads:
    """Long reads wait here until the test runs them. Meanwhile another connection has the snapshot
    that the oldest would have."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.waiting: list[tuple[Callable[[], Any], Any]] = []
        self.other = apsw.Connection(lab.leader.path, flags=apsw.SQLITE_OPEN_READONLY)
        lab.loop.submit_read = self.submit  # type: ignore[method-assign]

    def submit(self, work: Callable[[], Any], done: Any) -> None:
        self.waiting.append((work, done))

    def begin(self) -> None:
        self.other.execute("BEGIN")
        self.other.execute("SELECT count(*) FROM t").fetchall()

    def end(self) -> None:
        """Of all that have begun."""
        if self.other.in_transaction:
            self.other.execute("ROLLBACK")
        begun, self.waiting = self.waiting, []
        for work, done in begun:
            try:
                value = work()
            except Exception as error:  # noqa: BLE001 - as a thread does it
                done(None, error)
            else:
                done(value, None)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    one = Lab(
        tmp_path,
        checkpoint_wal_bytes=64 * 1024,
        checkpoint_rest_bytes=4 * PAGE_BYTES,
        checkpoint_held_max=HELD_MAX_S,
        read_steps_max=1000,
    )
    one.do("CREATE TABLE t(a)")
    yield one
    one.close()


@pytest.fixture
def threads(lab: Lab) -> Iterator[Threads]:
    one = Threads(lab)
    yield one
    one.other.close()


def hold_up(lab: Lab, threads: Threads) -> Answers:
    """A long read is under way, and has kept checkpoints from passing since now."""
    answers: Answers = []
    lab.leader.query(LONG, answers.append)
    threads.begin()
    for _ in range(4):
        lab.do(FILL)
        lab.loop.run()
    assert lab.leader.statistics().checkpoints == 0
    return answers


def test_reads_that_overlap_for_too_long_let_a_checkpoint_pass(lab: Lab, threads: Threads) -> None:
    answers = hold_up(lab, threads)
    lab.loop.advance(HELD_MAX_S)
    lab.leader.query(LONG, answers.append)
    assert len(threads.waiting) == 1, "the second one waits for the first to end"
    assert read(lab, "SELECT count(*) FROM t")[0].rows == [(4,)], "short ones do not wait"
    threads.end()
    lab.loop.advance(1.0)
    assert lab.leader.checkpointer.checkpointed_index == lab.leader.applied_index
    assert lab.leader.statistics().checkpoints == 1
    threads.end()
    assert [type(answer) for answer in answers] == [Outcome, Outcome]


def test_before_that_time_nobody_waits(lab: Lab, threads: Threads) -> None:
    answers = hold_up(lab, threads)
    lab.loop.advance(HELD_MAX_S / 2)
    lab.leader.query(LONG, answers.append)
    assert len(threads.waiting) == 2


def test_who_waits_in_vain_is_refused_in_its_own_time(lab: Lab, threads: Threads) -> None:
    answers = hold_up(lab, threads)
    lab.loop.advance(HELD_MAX_S)
    for db_timeout_s in (1.0, 0.0):
        lab.leader.query(ask(LONG.sqls[0], kind=QUERY, db_timeout_s=db_timeout_s), answers.append)
    lab.loop.advance(1.0)
    assert [type(answer) for answer in answers] == [Overloaded]
    lab.loop.advance(lab.settings.request_timeout)
    assert [type(answer) for answer in answers] == [Overloaded, Overloaded]
    assert len(threads.waiting) == 1


def test_who_waits_hears_of_a_stop(lab: Lab, threads: Threads) -> None:
    answers = hold_up(lab, threads)
    lab.loop.advance(HELD_MAX_S)
    lab.leader.query(LONG, answers.append)
    assert not lab.leader.is_at_rest
    lab.leader.close()
    assert [type(answer) for answer in answers] == [Stopped]


def test_those_that_wait_count_for_the_bound_of_long_reads(lab: Lab, threads: Threads) -> None:
    answers = hold_up(lab, threads)
    lab.loop.advance(HELD_MAX_S)
    lab.leader._readers._in_threads_max = 2
    for _ in range(2):
        lab.leader.query(LONG, answers.append)
    assert [type(answer) for answer in answers] == [Overloaded]


def test_a_checkpoint_that_fails_without_them_as_well_is_no_reason_to_wait_on(
    lab: Lab, threads: Threads
) -> None:
    answers = hold_up(lab, threads)
    lab.loop.advance(HELD_MAX_S)
    lab.leader.query(LONG, answers.append)
    (work, done), *threads.waiting = threads.waiting
    done(work(), None)  # somebody else still reads from the WAL: a backup tool, say
    lab.loop.advance(1.0)
    assert len(threads.waiting) == 1, "it reads"
    lab.leader.query(LONG, answers.append)
    assert len(threads.waiting) == 2, "the next ones do not wait either"


def test_while_a_check_of_the_content_reads_nobody_waits(
    lab: Lab, threads: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = hold_up(lab, threads)
    lab.loop.advance(HELD_MAX_S)
    monkeypatch.setattr(type(lab.leader._content), "is_running", True)
    lab.leader.query(LONG, answers.append)
    assert len(threads.waiting) == 2, "without it no checkpoint would pass either"


def test_when_the_reads_have_ended_a_checkpoint_is_tried_at_once(
    lab: Lab, threads: Threads
) -> None:
    answers = hold_up(lab, threads)
    threads.end()
    lab.loop.advance(HELD_MAX_S - 1.0)  # nothing reads, and nothing is written
    assert lab.leader.statistics().checkpoints == 1
    lab.leader.query(LONG, answers.append)
    lab.loop.advance(2.0)
    lab.leader.query(LONG, answers.append)
    assert len(threads.waiting) == 2, "what is long over is not held against these two"


def test_a_pause_too_short_for_a_checkpoint_is_none(lab: Lab, threads: Threads) -> None:
    answers = hold_up(lab, threads)
    for _ in range(2):
        threads.end()
        lab.leader.query(LONG, answers.append)  # before the loop has come to the checkpoint
        threads.begin()
        lab.do(FILL)
        lab.loop.advance(HELD_MAX_S / 2)
    assert lab.leader.statistics().checkpoints == 0
    lab.leader.query(LONG, answers.append)
    assert len(threads.waiting) == 1, "the time in which none was possible adds up"


def test_images_that_cannot_be_made_do_not_put_off_the_next_lull(
    lab: Lab, threads: Threads, tmp_path: Path
) -> None:
    answers = hold_up(lab, threads)
    lab.loop.advance(HELD_MAX_S)
    lab.leader.query(LONG, answers.append)
    threads.end()
    lab.loop.advance(1.0)
    assert lab.leader.statistics().checkpoints == 1
    threads.begin()
    for _ in range(6):
        lab.do("INSERT INTO t VALUES(zeroblob(5000))")  # too little for a checkpoint of its own
        lab.leader.checkpointer.make_image(str(tmp_path / "images"), lambda found, error: None)
        lab.loop.advance(HELD_MAX_S / 5)
    lab.leader.query(LONG, answers.append)
    assert len(threads.waiting) == 1, "it waits for the one before"


def test_a_read_that_ends_after_the_close_begins_no_checkpoint(lab: Lab, threads: Threads) -> None:
    hold_up(lab, threads)
    lab.leader.close()
    threads.end()
    lab.loop.advance(1.0)
    assert not lab.leader._lull.is_here


def wish_in_vain(lab: Lab, threads: Threads, directory: Path, answers: Answers) -> list[Any]:
    """One waits for a lull, and reads have kept an image from being made; what comes of images."""
    images: list[Any] = []
    lab.loop.advance(HELD_MAX_S)
    lab.leader.query(LONG, answers.append)
    lab.leader.checkpointer.make_image(str(directory), lambda *answer: images.append(answer))
    lab.loop.run()
    ((found, error),) = images
    assert (found, type(error)) == (None, ImageUnwritten)
    return images


def test_an_image_that_is_wished_for_is_made_in_the_lull(
    lab: Lab, threads: Threads, tmp_path: Path
) -> None:
    answers = hold_up(lab, threads)
    images = wish_in_vain(lab, threads, tmp_path, answers)
    threads.end()
    lab.loop.advance(lab.settings.image_offer_interval)
    assert not threads.waiting
    lab.leader.checkpointer.make_image(str(tmp_path), lambda *answer: images.append(answer))
    lab.loop.advance(0.0)
    assert len(threads.waiting) == 1, "it reads while the image is copied"
    threads.begin()
    lab.loop.advance(1.0)
    found, error = images[-1]
    assert (found is not None, error) == (True, None)


def test_a_wish_for_an_image_that_is_not_repeated_ends(
    lab: Lab, threads: Threads, tmp_path: Path
) -> None:
    answers = hold_up(lab, threads)
    wish_in_vain(lab, threads, tmp_path, answers)
    threads.end()
    lab.loop.advance(3 * lab.settings.image_offer_interval)
    assert lab.leader.statistics().checkpoints == 1
    assert len(threads.waiting) == 1


def test_reads_beside_the_loop_are_led_to_it_until_a_checkpoint_has_passed(
    lab: Lab, threads: Threads
) -> None:
    machine, one, other = lab.leader, object(), object()
    machine.reads_beside.add(one)
    threads.begin()
    for _ in range(4):
        lab.do(FILL)
        lab.loop.run()
    machine.reads_beside.add(other)  # the next one has begun before that ends
    machine.reads_beside.discard(one)
    lab.loop.advance(HELD_MAX_S / 2)
    assert machine.may_read_beside
    lab.loop.advance(HELD_MAX_S / 2)
    assert not machine.may_read_beside
    answers: Answers = []
    machine.query(LONG, answers.append)
    lab.loop.advance(1.0)
    assert (machine.statistics().checkpoints, len(threads.waiting)) == (0, 0)
    machine.reads_beside.discard(other)
    threads.end()
    lab.loop.advance(1.0)
    assert (machine.statistics().checkpoints, len(threads.waiting)) == (1, 1)
    assert machine.may_read_beside


def test_the_pause_between_two_reads_beside_the_loop_is_used(lab: Lab, threads: Threads) -> None:
    machine, one = lab.leader, object()
    machine.reads_beside.add(one)
    threads.begin()
    for _ in range(4):
        lab.do(FILL)
        lab.loop.run()
    assert machine.may_read_beside, "short ones go on beside it"
    machine.reads_beside.discard(one)
    threads.end()
    lab.loop.advance(1.0)
    assert machine.statistics().checkpoints == 1
