"""Deliveries and facts to try the callback service's parts with."""

from shared.domain.callbacks import (
    CallbackAttempted,
    CallbackDelivered,
    CallbackReplayed,
    Delivery,
)
from shared.domain.retry_policy import ErrorClass
from shared.domain.types import JsonText, facts_of
from tests.support.requests import URL, facts, request_id

__all__ = ["attempted", "delivered", "delivery", "replayed"]


def delivery(number: int = 0, *, attempt: int = 1, replay_count: int = 0, deferrals: int = 0) -> Delivery:
    return Delivery(
        **facts(number),
        url=URL,
        webhook_id=request_id(number),
        body=JsonText("{}"),
        origin="t.results-0-0",
        attempt=attempt,
        replay_count=replay_count,
        deferrals=deferrals,
    )


def attempted(number: int = 0, *, attempt: int = 1) -> CallbackAttempted:
    return CallbackAttempted(
        **facts_of(delivery(number)),
        url=URL,
        attempt=attempt,
        error_class=ErrorClass.REFUSED,
        at_ms=1,
        duration_ms=1.0,
    )


def delivered(number: int = 0) -> CallbackDelivered:
    return CallbackDelivered(
        **facts_of(delivery(number)), url=URL, attempt=1, status=200, at_ms=1, duration_ms=1.0
    )


def replayed(number: int = 0) -> CallbackReplayed:
    return CallbackReplayed(
        **facts_of(delivery(number)), letter="l", replayed_by="me", reason="r", at_ms=1, replay_count=1
    )
