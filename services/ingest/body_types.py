"""What callers send, as the documentation describes it; what is unknown is refused."""

from typing import Annotated, Final

import msgspec

from shared.events.request_data import MAX_NAME, MAX_REFERENCE

__all__ = ["REST_SOURCE", "AsyncBody", "DestinationBody", "SyncBody"]

REST_SOURCE: Final = "rest"
"""What the events of this API name as the submitter."""

MAX_REASON: Final = 500


class SyncBody(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What `POST /v1/requests/sync` takes."""

    operation: Annotated[str, msgspec.Meta(description="Name of an operation, see `/v1/operations`.")]
    input: Annotated[object, msgspec.Meta(description="What the operation's `input_schema` asks for.")] = {}
    timeout: Annotated[
        float | None, msgspec.Meta(description="Longest running time of the operation, in seconds.")
    ] = None
    expires_at: Annotated[
        str | None, msgspec.Meta(description="RFC 3339 time after which the request is not started any more.")
    ] = None
    client_reference: Annotated[
        Annotated[str, msgspec.Meta(max_length=MAX_REFERENCE)] | None,
        msgspec.Meta(description="Your own name for the request."),
    ] = None


class AsyncBody(SyncBody, kw_only=True, forbid_unknown_fields=True):
    """What `POST /v1/requests/async` takes."""

    callback_url: Annotated[
        str | None, msgspec.Meta(description="http or https URL that is to receive the signed outcome.")
    ] = None


class DestinationBody(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What `POST /v1/destinations/disable` and `/enable` take."""

    url: Annotated[str, msgspec.Meta(description="The exact callback URL.")]
    submitter: Annotated[
        str,
        msgspec.Meta(
            min_length=1,
            max_length=MAX_NAME,
            description="Whose callbacks: `rest`, or what a direct producer calls itself.",
        ),
    ] = REST_SOURCE
    reason: Annotated[
        str, msgspec.Meta(max_length=MAX_REASON, description="Kept in the log, with who and when.")
    ] = ""
    by: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_NAME, description="Who asks for it.")] = (
        "api"
    )
