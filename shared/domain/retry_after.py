"""What a receiver asks for with `Retry-After`, whatever it has written there."""

import math
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

__all__ = ["retry_after_ms"]

LONGEST_TEXT: Final = 64
FAR_MS: Final = 10 * 365 * 24 * 3600 * 1000
"""Ten years: more than anybody means, and small enough for every sum that follows."""


def retry_after_ms(text: str | None, now_ms: int) -> int | None:
    """Milliseconds to wait, or None when `text` asks for nothing that can be understood.

    Seconds may be fractional; a date is compared with `now_ms`, and one that has passed asks for 0.
    """
    if text is None or len(text) > LONGEST_TEXT:
        return None
    seconds = _seconds(text.strip())
    if seconds is not None:
        return None if seconds < 0 or math.isnan(seconds) else math.ceil(min(seconds * 1000, FAR_MS))
    return _until_date(text.strip(), now_ms)


def _seconds(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _until_date(text: str, now_ms: int) -> int | None:
    try:
        date = parsedate_to_datetime(text)
        if date.tzinfo is None:
            date = date.replace(tzinfo=UTC)
        at_ms = int(date.timestamp() * 1000)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return max(0, min(at_ms - now_ms, FAR_MS))
