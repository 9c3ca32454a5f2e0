"""The tables of terms and places, against lists."""

from __future__ import annotations

import random
from array import array

import pytest

from rsqlite.raft.types import Index
from rsqlite.storage.index import PlaceTable, TermRuns


@pytest.mark.parametrize("seed", range(20))
def test_terms_are_what_a_list_says(seed: int) -> None:
    chance = random.Random(seed)
    first = chance.choice((1, 1, 50))
    runs = TermRuns(first, 0 if first == 1 else 3)
    twin = [0 if first == 1 else 3]
    for _ in range(200):
        if chance.random() < 0.1 and len(twin) > 1:
            keep = chance.randint(1, len(twin) - 1)
            runs.truncate(first + keep - 1)
            del twin[keep:]
        else:
            twin.append(twin[-1] + (chance.random() < 0.2))
            runs.append(twin[-1], first + len(twin) - 2)
        assert runs.last_index == first + len(twin) - 2
        assert runs.last_term == twin[-1]
    found = [runs.term(index) for index in range(first - 1, runs.last_index + 1)]
    assert found == twin
    assert runs.term(runs.last_index + 1) is None
    assert runs.term(first - 2) is None


def test_terms_below_the_first_entry_cannot_be_taken_back() -> None:
    runs = TermRuns(10, 2)
    with pytest.raises(ValueError, match="below the first entry 10"):
        runs.truncate(9)


def test_a_log_of_one_term_takes_no_memory_for_terms() -> None:
    runs = TermRuns()
    for index in range(1, 10_000):
        runs.append(1, index)
    assert len(runs._starts) == 2
    assert runs.term(Index(5000)) == 1


@pytest.mark.parametrize("seed", range(20))
def test_places_are_what_a_dictionary_says(seed: int) -> None:
    chance = random.Random(seed)
    table = PlaceTable(first_index=5)
    table.open_segment(1)
    twin: list[tuple[int, int]] = []
    sequence, offset = 1, 0
    for _ in range(100):
        truncate_from = None
        if chance.random() < 0.2 and twin:
            truncate_from = 5 + chance.randrange(len(twin))
            del twin[truncate_from - 5 :]
        if chance.random() < 0.2:
            sequence, offset = sequence + 1, 0
        offsets = array("I")
        for _ in range(chance.randint(0, 4)):
            offset += 8
            offsets.append(offset)
            twin.append((sequence, offset))
        table.apply(truncate_from, sequence, offsets)
    low = 5
    found: list[tuple[int, int]] = []
    while low < 5 + len(twin):
        in_segment, end, run = table.run(low, 5 + len(twin))
        assert end == low + len(run) > low
        found += [(in_segment, place) for place in run]
        low = end
    assert found == twin


def test_a_run_ends_where_it_is_told() -> None:
    table = PlaceTable()
    table.open_segment(3)
    table.apply(None, 3, array("I", [8, 16, 24]))
    assert table.run(2, 3) == (3, 3, array("I", [16]))
