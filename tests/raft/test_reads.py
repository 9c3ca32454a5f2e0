"""The queues of reads that wait for an index."""

from __future__ import annotations

from rsqlite.raft.reads import ForwardedReads, LeaderReads


def test_rule_41_a_round_confirms_only_reads_that_came_before_it_was_handed_out() -> None:
    reads = LeaderReads()
    reads.add(None, 1, 10)
    reads.next_round()
    reads.add(None, 2, 11)
    assert [read.context for read in reads.confirmed(reads.round)] == [1]
    assert reads.is_waiting
    reads.next_round()
    assert [(read.context, read.index) for read in reads.confirmed(reads.round)] == [(2, 11)]
    assert not reads.is_waiting


def test_a_round_is_handed_out_only_for_reads_that_came() -> None:
    reads = LeaderReads()
    reads.next_round()
    assert reads.round == 0


def test_a_later_round_confirms_the_earlier_ones_in_order() -> None:
    reads = LeaderReads()
    for context in (1, 2, 3):
        reads.add(None, context, context)
        reads.next_round()
    assert [read.context for read in reads.confirmed(2)] == [1, 2]
    assert [read.context for read in reads.confirmed(3)] == [3]


def test_rule_40_early_reads_wait_for_the_first_commit_of_the_term() -> None:
    reads = LeaderReads()
    reads.add_early(None, 1)
    reads.add_early(4, 2)
    assert not reads.is_waiting
    reads.first_committed(9)
    reads.next_round()
    assert [tuple(read) for read in reads.confirmed(1)] == [(None, 1, 9), (4, 2, 9)]


def test_everybody_who_waits_is_drained_once() -> None:
    reads = LeaderReads()
    reads.add(None, 1, 5)
    reads.next_round()
    reads.add(3, 2, 5)
    reads.add_early(None, 3)
    assert len(reads) == 3
    assert reads.drain() == [(None, 1), (3, 2), (None, 3)]
    assert reads.drain() == []
    assert len(reads) == 0


def test_a_follower_asks_one_question_at_a_time() -> None:
    reads = ForwardedReads(100)
    assert reads.take_question() is None
    reads.add(1)
    reads.add(2)
    assert reads.take_question() == 101
    reads.add(3)
    assert reads.take_question() is None
    assert reads.answered(101) == [1, 2]
    assert reads.take_question() == 102
    # A late copy of the first answer says nothing about the second question.
    assert reads.answered(101) == []
    assert reads.answered(102) == [3]
    assert reads.answered(102) == []


def test_a_question_is_sent_again_and_given_up() -> None:
    reads = ForwardedReads(0)
    reads.add(1)
    reads.take_question()
    assert reads.tick(1, resend_after=3, fail_after=10) == (None, [])
    assert reads.tick(2, resend_after=3, fail_after=10) == (1, [])
    assert reads.tick(1, resend_after=3, fail_after=10) == (None, [])
    assert reads.tick(6, resend_after=3, fail_after=10) == (None, [1])
    assert reads.tick(9, resend_after=3, fail_after=10) == (None, [])
