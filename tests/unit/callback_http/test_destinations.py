"""A destination is one submitter's exact URL, and its last event counts."""

from hypothesis import given
from hypothesis import strategies as st

from shared.domain.destinations import (
    DestinationDisabled,
    DestinationEnabled,
    destination_id,
    disabled_message,
    evolve,
    identify,
)

URL = "https://receiver.example/hook?token=hidden"


@given(st.text(), st.text(), st.text(), st.text())
def test_two_destinations_never_share_an_id(one: str, url: str, other: str, other_url: str) -> None:
    same = (one, url) == (other, other_url)
    assert (destination_id(one, url) == destination_id(other, other_url)) == same


def test_what_a_url_may_hide_is_neither_in_the_id_nor_shown() -> None:
    destination, shown = identify("rest", URL)
    assert shown == "https://receiver.example/hook?…"
    assert "hidden" not in destination + shown
    assert destination != identify("rest", URL + "2")[0]


def test_the_last_event_counts() -> None:
    destination, shown = identify("rest", URL)
    disabled = DestinationDisabled(
        destination_id=destination,
        submitter="rest",
        url=shown,
        reason="gone",
        disabled_by="receiver",
        at_ms=1,
    )
    enabled = DestinationEnabled(
        destination_id=destination, submitter="rest", url=shown, reason="", enabled_by="ops", at_ms=2
    )
    assert evolve(disabled) == disabled
    assert evolve(enabled) is None
    assert disabled_message(disabled) == "disabled by receiver: gone"
