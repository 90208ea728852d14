"""From an outcome to the callback that tells of it."""

from typing import Final

import msgspec

from shared.domain.callbacks import Delivery
from shared.domain.requests import Failure, RequestFailed, RequestSucceeded
from shared.domain.types import JsonText, facts_of
from shared.events.envelope import format_time
from shared.events.wire import wire_of

__all__ = ["first_delivery"]

_encoder: Final = msgspec.json.Encoder()


class CallbackBody(msgspec.Struct, frozen=True, kw_only=True):
    """What a receiver gets: `result` when the request succeeded, `error` when it failed."""

    id: str
    type: str
    status: str
    operation: str
    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    error: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    client_reference: str | None
    finished_at: str


def first_delivery(outcome: RequestSucceeded | RequestFailed, origin: str) -> Delivery | None:
    """The delivery that `outcome`, which lies at `origin` in the log, asks for."""
    if outcome.callback_url is None:
        return None
    return Delivery(
        **facts_of(outcome),
        url=outcome.callback_url,
        webhook_id=outcome.request_id,
        body=JsonText(_encoder.encode(_body(outcome)).decode()),
        origin=origin,
    )


def _body(outcome: RequestSucceeded | RequestFailed) -> CallbackBody:
    match outcome:
        case RequestSucceeded():
            status = "succeeded"
            told = {"result": msgspec.Raw(outcome.result.encode())}
        case RequestFailed():
            status = "failed"
            told = {"error": msgspec.Raw(_encoder.encode(wire_of(Failure).to_wire(outcome.error)))}
    return CallbackBody(
        id=outcome.request_id,
        type=f"request.{status}",
        status=status,
        operation=outcome.operation,
        client_reference=outcome.client_reference,
        finished_at=format_time(outcome.finished_at_ms),
        **told,
    )
