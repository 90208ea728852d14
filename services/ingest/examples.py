"""One example of each answer for the documentation; tests hold them to the structures."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from services.ingest.answers import (
    AcceptedAnswer,
    CancelAnswer,
    DestinationAnswer,
    DestinationsAnswer,
    ListAnswer,
    OperationsAnswer,
    OutcomeAnswer,
    RequestAnswer,
    StatsAnswer,
    StatusAnswer,
)
from shared.operations.builtin.hash_chain import HASH_CHAIN
from shared.operations.registry import Registry

__all__ = ["EXAMPLES", "REQUEST_ID"]

REQUEST_ID: Final = "5f0f3c0e-6c0a-4d3b-9d6e-2f6a1b7c8d90"
_CALLBACK_URL: Final = "https://example.com/hooks/consuma"
_RESULT: Final = {
    "digest": "41c8be203e96832c3eba574ac8299ec88652a1dfdecfb6af19c1dfc9cd1e90f1",
    "rounds": 1000,
}
_SUMMARY: Final = {
    "id": REQUEST_ID,
    "mode": "async",
    "source": "rest",
    "operation": "hash_chain",
    "status": "succeeded",
    "callback_status": "delivered",
    "accepted_at": "2026-05-04T09:30:00.120Z",
    "client_reference": "order-4711",
    "callback_url": _CALLBACK_URL,
    "timeout_ms": None,
    "expires_at": None,
    "started_at": None,
    "finished_at": "2026-05-04T09:30:00.131Z",
    "worker": None,
    "attempts": 1,
    "queue_ms": 0.4,
    "compute_ms": 1.9,
    "error_code": None,
    "error_message": None,
    "callback_attempt_count": 1,
    "callback_at": "2026-05-04T09:30:00.152Z",
    "callback_retry_at": None,
    "replay_count": 0,
}
_EVENT: Final = {
    "topic": "consuma.requests",
    "partition": 3,
    "offset": 1204,
    "type": "consuma.request.submitted.v1",
    "event_id": "0f3b7f5e-54f7-4f2b-8a43-0d0b54f3c1a2",
    "at": "2026-05-04T09:30:00.120Z",
    "data": {"operation": "hash_chain", "input": {"seed": "consuma", "rounds": 1000}},
    "data_bytes": 74,
    "note": None,
    "anomaly": None,
    "superseded": False,
}
_ATTEMPT: Final = {
    "attempt": 1,
    "outcome": "delivered",
    "url": _CALLBACK_URL,
    "at": "2026-05-04T09:30:00.152Z",
    "duration_ms": 18.2,
    "http_status": 204,
    "error_class": None,
    "message": None,
    "response_excerpt": None,
    "retry_at": None,
    "superseded": False,
}
_DESTINATION: Final = {
    "id": "2c1f3a0d5b7e9f80a1b2c3d4e5f60718293a4b5c",
    "state": "disabled",
    "submitter": "rest",
    "url": _CALLBACK_URL,
    "reason": "the shop has moved",
    "by": "ada",
    "at": "2026-05-04T09:30:00.000Z",
}

EXAMPLES: Final[Mapping[type[msgspec.Struct], Mapping[str, Any]]] = {
    AcceptedAnswer: {
        "id": REQUEST_ID,
        "status": "accepted",
        "mode": "async",
        "operation": "hash_chain",
        "accepted_at": "2026-05-04T09:30:00.120Z",
        "client_reference": "order-4711",
    },
    CancelAnswer: {
        "id": REQUEST_ID,
        "status": "running",
        "cancel_requested_at": "2026-05-04T09:30:02.000Z",
    },
    OutcomeAnswer: {
        "id": REQUEST_ID,
        "status": "succeeded",
        "mode": "sync",
        "operation": "hash_chain",
        "result": _RESULT,
        "attempts": 1,
        "queue_ms": 0.4,
        "compute_ms": 1.9,
        "accepted_at": "2026-05-04T09:30:00.120Z",
        "finished_at": "2026-05-04T09:30:00.131Z",
    },
    ListAnswer: {"items": [_SUMMARY], "next": None},
    RequestAnswer: {
        **_SUMMARY,
        "input": {"seed": "consuma", "rounds": 1000},
        "result": _RESULT,
        "error": None,
        "events": [_EVENT],
        "callback_attempts": [_ATTEMPT],
        "truncated": False,
    },
    StatsAnswer: {
        "since": "2026-05-03T09:30:00.000Z",
        "total": 1204,
        "items": [
            {"mode": "async", "status": "succeeded", "callback_status": "delivered", "count": 1198},
            {"mode": "sync", "status": "failed", "callback_status": "none", "count": 6},
        ],
    },
    OperationsAnswer: {"items": Registry([HASH_CHAIN]).describe()},
    DestinationAnswer: _DESTINATION,
    DestinationsAnswer: {"items": [_DESTINATION]},
    StatusAnswer: {"status": "ready", "checks": {"kafka": True, "replies": True}},
}
