"""The columns of an entry while it is made."""

from __future__ import annotations

from rsqlite.statemachine.journal import Journal


def filled(*texts: str) -> Journal:
    journal = Journal()
    for number, text in enumerate(texts):
        journal.texts.append(journal.place(text))
        journal.parameters.append([number])
        journal.changes.append(1)
        journal.rowids.append(number)
        journal.streams[number] = number
    return journal


def test_each_text_is_there_once() -> None:
    journal = filled("a", "b", "a")
    assert (journal.sqls, journal.texts) == (["a", "b"], [0, 1, 0])


def test_a_cut_takes_back_what_came_after_the_mark() -> None:
    journal = filled("a", "b", "a", "c")
    journal.resets[1] = (0, 0, 0)
    journal.errors[3] = 19
    journal.cut(2)
    assert journal.mark() == 2
    assert (journal.texts, journal.parameters, journal.rowids) == ([0, 1], [[0], [1]], [0, 1])
    assert (journal.streams, journal.resets, journal.errors) == ({0: 0, 1: 1}, {1: (0, 0, 0)}, {})


def test_columns_that_say_the_same_everywhere_are_left_empty() -> None:
    journal = filled("a", "a")
    journal.counts = [1, 1]
    command = journal.command(
        version=1, flags=0, time_ms=5, settings=(), digest_from=-1, digest=b""
    )
    assert (command.counts, command.texts, command.times) == ([], [], [5])
    journal.counts = [2]
    command = journal.command(
        version=1, flags=0, time_ms=5, settings=(), digest_from=-1, digest=b""
    )
    assert command.counts == [2]
