"""Whatever stands in `Retry-After` is a number of milliseconds or nothing."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.retry_after import FAR_MS, retry_after_ms

NOW_MS = int(datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, None),
        ("", None),
        ("0", 0),
        ("120", 120_000),
        (" 2 ", 2_000),
        ("1.5", 1_500),
        ("0.0001", 1),
        ("1e3", 1_000_000),
        ("-1", None),
        ("nan", None),
        ("inf", FAR_MS),
        ("1e300", FAR_MS),
        ("soon", None),
        ("Sun, 01 Mar 2026 12:00:30 GMT", 30_000),
        ("Sunday, 01-Mar-26 12:00:30 GMT", 30_000),
        ("Sun Mar  1 12:00:30 2026", 30_000),
        ("Sun, 01 Mar 2026 11:00:00 GMT", 0),
        ("Sun, 01 Mar 9999 11:00:00 GMT", FAR_MS),
        ("Sun, 99 Mar 2026 11:00:00 GMT", None),
        ("1" * 65, None),
    ],
)
def test_seconds_dates_and_garbage(text: str | None, expected: int | None) -> None:
    assert retry_after_ms(text, NOW_MS) == expected


@given(st.text())
def test_nothing_that_a_receiver_writes_raises_or_goes_backwards(text: str) -> None:
    wait_ms = retry_after_ms(text, NOW_MS)
    assert wait_ms is None or 0 <= wait_ms <= FAR_MS
