"""A follower as its leader sees it."""

from __future__ import annotations

from rsqlite.raft.progress import Progress, ProgressState


def replicating(match_index: int = 5) -> Progress:
    progress = Progress(match_index + 1)
    progress.acknowledged(match_index)
    assert progress.state is ProgressState.REPLICATE
    return progress


def test_a_probe_sends_one_and_waits() -> None:
    progress = Progress(10)
    progress.sent(9, 0, messages_max=4, bytes_max=100)
    assert progress.is_paused
    assert progress.next_index == 10
    assert not progress.inflight


def test_replicate_sends_ahead_until_the_window_is_full_in_messages_or_bytes() -> None:
    progress = replicating(5)
    progress.sent(6, 10, messages_max=2, bytes_max=100)
    assert (progress.next_index, progress.is_paused) == (7, False)
    progress.sent(7, 10, messages_max=2, bytes_max=100)
    assert progress.is_paused
    assert progress.acknowledged(6)
    assert (progress.is_paused, progress.inflight_bytes) == (False, 10)
    progress.sent(8, 90, messages_max=9, bytes_max=100)
    assert progress.is_paused


def test_rule_21_match_never_goes_down_and_old_refusals_mean_nothing() -> None:
    progress = replicating(5)
    assert not progress.acknowledged(3)
    assert progress.match_index == 5
    assert not progress.refused(4, 2)
    assert progress.state is ProgressState.REPLICATE
    assert progress.refused(7, 6)
    assert (progress.state, progress.next_index) == (ProgressState.PROBE, 6)
    # A refusal of something else than what the probe asked.
    assert not progress.refused(9, 3)


def test_a_probe_goes_back_to_the_hint_but_never_to_what_matches() -> None:
    progress = Progress(20)
    assert progress.refused(19, 12)
    assert progress.next_index == 12
    assert progress.refused(11, 1)
    assert progress.next_index == 1
    progress.acknowledged(4)
    progress.become_probe()
    assert progress.refused(4, 2)
    assert progress.next_index == 5


def test_a_hint_beyond_the_refused_index_does_not_go_forward() -> None:
    progress = Progress(10)
    assert progress.refused(9, 30)
    assert progress.next_index == 9


def test_any_success_ends_a_probe() -> None:
    progress = Progress(10)
    progress.sent(9, 0, messages_max=4, bytes_max=100)
    progress.acknowledged(0)
    assert progress.state is ProgressState.REPLICATE
    assert (progress.next_index, progress.is_paused) == (1, False)


def test_a_follower_that_needs_a_snapshot_is_left_alone() -> None:
    progress = replicating(5)
    progress.sent(6, 10, messages_max=2, bytes_max=100)
    progress.become_snapshot()
    assert progress.is_paused
    assert not progress.inflight
    assert not progress.refused(5, 1)
    view = progress.view(7)
    assert (view.node_id, view.state, view.match_index) == (7, ProgressState.SNAPSHOT, 5)
