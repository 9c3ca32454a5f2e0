"""The cache of recent entries: a run that ends with the log, within its bound."""

from __future__ import annotations

import random

import pytest

from rsqlite.raft.types import Entry
from rsqlite.storage.cache import ENTRY_OVERHEAD_BYTES, EntryCache
from tests.storage.rig import entry


def weight(entries: list[Entry]) -> int:
    return sum(len(one.data) + ENTRY_OVERHEAD_BYTES for one in entries)


@pytest.mark.parametrize("seed", range(20))
def test_it_holds_the_end_of_the_log(seed: int) -> None:
    chance = random.Random(seed)
    bytes_max = chance.choice((0, 1000, 5000))
    cache = EntryCache(1, bytes_max)
    log: list[Entry] = []
    durable = 0
    for term in range(1, 300):
        if chance.random() < 0.15 and log:
            index = chance.randint(1, len(log))
            cache.truncate(index)
            del log[index - 1 :]
            durable = min(durable, index - 1)
        new = [
            entry(len(log) + 1 + n, term, b"x" * chance.randint(0, 300))
            for n in range(chance.randint(0, 5))
        ]
        cache.append(new, sum(len(one.data) for one in new))
        log += new
        durable = chance.randint(durable, len(log))
        cache.evict(durable)
        held = log[cache.first_index - 1 :]
        assert cache.slice(cache.first_index, len(log) + 1) == held
        assert cache.bytes == weight(held)
        # What is not durable is never evicted; what is durable goes when there is too much.
        assert cache.first_index <= durable + 1
        assert cache.bytes <= bytes_max or cache.first_index == durable + 1
        assert len(cache._entries) <= 2 * len(held) + 1


def test_truncating_below_what_is_held_empties_it() -> None:
    cache = EntryCache(10, 1 << 20)
    cache.append([entry(10), entry(11)], 0)
    cache.truncate(5)
    assert (cache.first_index, cache.bytes) == (5, 0)
    cache.append([entry(5, 2)], 0)
    assert cache.slice(5, 6) == [entry(5, 2)]


class Data(bytes):
    """Bytes that are counted."""

    alive = 0

    def __new__(cls, size: int) -> Data:
        cls.alive += 1
        return super().__new__(cls, size)

    def __del__(self) -> None:
        Data.alive -= 1


def test_what_is_evicted_takes_no_memory_any_more() -> None:
    cache = EntryCache(1, 10 * (1000 + ENTRY_OVERHEAD_BYTES))
    for index in range(1, 100):
        cache.append([entry(index, 1, Data(1000))], 1000)
        cache.evict(index)
        assert Data.alive == min(index, 10)
