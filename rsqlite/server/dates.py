"""Dates as Go's SQLite driver returns them, which is what clients of rqlite get (clients.md 1).

The driver looks at the declared type alone: in columns declared DATE, DATETIME or TIMESTAMP text
is parsed by nine layouts and integers are Unix seconds, or milliseconds when they are beyond
±10^12. Both come back in RFC 3339. Text that no layout fits becomes the year 1 (`ZERO`).
"""

from __future__ import annotations

import re
from calendar import monthrange

ZERO = "0001-01-01T00:00:00Z"

# The nine layouts in one: a time needs minutes, an offset needs seconds. The hour may have one
# digit, and a fraction may follow the seconds with a point or a comma, as in Go.
_LAYOUTS = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)"
    r"(?:[ T](\d\d?):(\d\d)(?::(\d\d)(?:[.,](\d+))?(?:([+-])(\d\d):(\d\d))?)?)?",
    re.ASCII,
)
_MILLISECONDS_FROM = 10**12


def rfc3339_of_text(text: str) -> str:
    """The moment that `text` names, in RFC 3339 with its own offset; ZERO if it names none."""
    found = _LAYOUTS.fullmatch(text.removesuffix("Z"))
    if found is None:
        return ZERO
    year, month, day, hour, minute, second, fraction, sign, offset_hour, offset_minute = (
        found.groups()
    )
    if not 1 <= int(month) <= 12 or not 1 <= int(day) <= _days(int(year), int(month)):
        return ZERO
    if int(hour or 0) > 23 or int(minute or 0) > 59 or int(second or 0) > 59:
        return ZERO
    zone = "Z"
    if sign and (int(offset_hour) or int(offset_minute)):
        if int(offset_hour) > 24 or int(offset_minute) > 60:
            return ZERO
        zone = f"{sign}{offset_hour}:{offset_minute}"
    digits = (fraction or "")[:9].rstrip("0")
    return (
        f"{year}-{month}-{day}T{int(hour or 0):02d}:{minute or '00'}:{second or '00'}"
        f"{'.' + digits if digits else ''}{zone}"
    )


def rfc3339_of_integer(value: int) -> str:
    """The moment that many seconds (or milliseconds) after 1970, in UTC."""
    if -_MILLISECONDS_FROM <= value <= _MILLISECONDS_FROM:
        seconds, nanoseconds = value, 0
    else:
        # Go multiplies in 64 bits and lets it wrap around; so do we.
        wrapped = (value * 1_000_000 + 2**63) % 2**64 - 2**63
        seconds, nanoseconds = divmod(wrapped, 1_000_000_000)
    days, rest = divmod(seconds, 86_400)
    year, month, day = _civil(days)
    digits = f"{nanoseconds:09d}".rstrip("0")
    return (
        f"{'-' if year < 0 else ''}{abs(year):04d}-{month:02d}-{day:02d}"
        f"T{rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d}"
        f"{'.' + digits if digits else ''}Z"
    )


def _days(year: int, month: int) -> int:
    """Days of a month; the year 0 is a leap year in Go's calendar, as 400 is."""
    return monthrange(year or 400, month)[1]


def _civil(days: int) -> tuple[int, int, int]:
    """Year, month, day of a day number since 1970 in the proleptic Gregorian calendar, without
    the bounds of `datetime` (Hinnant, chrono-compatible low-level date algorithms)."""
    era, day_of_era = divmod(days + 719_468, 146_097)
    year_of_era = (
        day_of_era - day_of_era // 1_460 + day_of_era // 36_524 - day_of_era // 146_096
    ) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * shifted + 2) // 5 + 1
    month = shifted + 3 if shifted < 10 else shifted - 9
    return year_of_era + era * 400 + (month <= 2), month, day
