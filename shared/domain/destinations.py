"""Destinations that take no callbacks: disabled by their receiver or a person, until somebody enables them.

A destination is one submitter's exact URL. What one submitter's URL answers never stops the callbacks of
another, not even on the same host. Events hold the URL without its query, which may be a credential.
"""

import hashlib
from dataclasses import dataclass

from shared.domain.callback_urls import shown_url

__all__ = [
    "DestinationDisabled",
    "DestinationEnabled",
    "DestinationEvent",
    "DestinationId",
    "destination_id",
    "disabled_message",
    "evolve",
    "identify",
]

DestinationId = str


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationDisabled:
    """Nothing is sent there any more. `disabled_by` is `receiver`, or names a person or a client."""

    destination_id: DestinationId
    submitter: str
    url: str
    reason: str
    disabled_by: str
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationEnabled:
    """It may be called again."""

    destination_id: DestinationId
    submitter: str
    url: str
    reason: str
    enabled_by: str
    at_ms: int


DestinationEvent = DestinationDisabled | DestinationEnabled


def destination_id(submitter: str, url: str) -> DestinationId:
    """The id of `url` for `submitter`: stable, of one size, and without what the URL may hide."""
    text = f"{len(submitter)}:{submitter}{url}"
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:40]


def identify(submitter: str, url: str) -> tuple[DestinationId, str]:
    """The id of a destination, and its URL as it may be shown."""
    return destination_id(submitter, url), shown_url(url)


def evolve(event: DestinationEvent) -> DestinationDisabled | None:
    """The state after `event`, whatever was before: the last one counts. None is an enabled destination."""
    return event if isinstance(event, DestinationDisabled) else None


def disabled_message(state: DestinationDisabled) -> str:
    """Why a delivery is not made, for the person who reads its dead letter."""
    return f"disabled by {state.disabled_by}: {state.reason}"
