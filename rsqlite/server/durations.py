"""Durations as Go writes and reads them: `1h15m30.918s`, `250ms`, `1.5s`, `0`."""

from __future__ import annotations

import re

_SECONDS = {
    "ns": 1e-9,
    "us": 1e-6,
    "µs": 1e-6,
    "μs": 1e-6,  # Go takes both the micro sign and the Greek letter
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
}
_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_SECONDS_MAX = (2**63 - 1) / 1e9
"""Go counts nanoseconds in 64 bits."""


def parse_duration(text: str) -> float:
    """Seconds of a Go duration; ValueError for anything that Go's time.ParseDuration refuses."""
    rest = text[1:] if text[:1] in ("+", "-") else text
    sign = -1.0 if text.startswith("-") else 1.0
    if rest == "0":
        return 0.0
    position, seconds = 0, 0.0
    while position < len(rest):
        part = _PART.match(rest, position)
        if part is None:
            break
        seconds += float(part[1]) * _SECONDS[part[2]]
        position = part.end()
    if position == 0 or position != len(rest) or seconds > _SECONDS_MAX:
        raise ValueError(f"{text!r} is not a duration such as 1s, 250ms or 1m30s")
    return sign * seconds


def format_duration(seconds: float) -> str:
    """Seconds as Go's Duration.String prints them: `1h2m3.5s`, `1.5ms`, `0s`."""
    if seconds < 0:
        return "-" + format_duration(-seconds)
    nanoseconds = round(seconds * 1e9)
    if nanoseconds == 0:
        return "0s"
    for unit, size in (("ns", 1_000), ("µs", 1_000_000), ("ms", 1_000_000_000)):
        if nanoseconds < size:
            return f"{_trimmed(nanoseconds, size // 1_000)}{unit}"
    minutes, rest = divmod(nanoseconds, 60_000_000_000)
    hours, minutes = divmod(minutes, 60)
    text = f"{_trimmed(rest, 1_000_000_000)}s"
    if hours or minutes:
        text = f"{minutes}m{text}"
    return f"{hours}h{text}" if hours else text


def _trimmed(value: int, unit: int) -> str:
    """`value / unit` in decimals without trailing zeros."""
    whole, fraction = divmod(value, unit)
    if not fraction:
        return str(whole)
    digits = len(str(unit)) - 1
    return f"{whole}.{fraction:0{digits}d}".rstrip("0")
