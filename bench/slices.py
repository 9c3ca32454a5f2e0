"""Moments of a run, and what came between two of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Mark(NamedTuple):
    """A moment of a run: when it was, how many answers had come, and the CPU used by then."""

    answers: int
    at: float
    """As time.perf_counter tells it."""
    generator_cpu_seconds: float
    server_cpu_seconds: float


@dataclass(frozen=True, slots=True)
class Slice:
    """What came between two moments of a run."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    max_ms: float

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds if self.seconds else 0.0
