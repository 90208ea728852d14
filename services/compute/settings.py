"""Settings of the compute service."""

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from shared.events.submit_settings import SubmitKeySettings
from shared.settings import ServiceSettings

__all__ = ["ComputeSettings"]


def _state_directory() -> Path:
    """Where programs of this user keep what must outlive them (XDG Base Directory Specification)."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "consuma"


class ComputeSettings(ServiceSettings, SubmitKeySettings):
    """One process: one member of the consumer group with slots of its own."""

    slots: Annotated[int, Field(ge=1, le=256)] | Literal["auto"] = Field(
        default=2, description="Worker processes of this consumer; `auto` is one for each core."
    )
    window: int = Field(
        default=256, ge=1, description="Records of one partition that are in work or wait for a slot."
    )
    started_after_ms: int = Field(
        default=200, ge=0, description="Running time after which a request is announced as started, in ms."
    )
    reply_topics: str = Field(
        default="replies.",
        description="What a producer's `reply-topic` must start with, after the topic prefix.",
    )
    reply_timeout_ms: int = Field(default=1_000, ge=10, description="Longest wait for a reply's ack, in ms.")
    replies_in_flight: int = Field(
        default=1_000,
        ge=1,
        description="Replies being sent at a time, to the API and to others each; beyond it dropped.",
    )
    cancellations: int = Field(
        default=10_000, ge=1, description="Latest cancellations that are remembered, and read at the start."
    )
    recent_requests: int = Field(
        default=10_000, ge=0, description="Finished requests remembered, so that a repeat is not computed."
    )
    recent_bytes: int = Field(
        default=64 * 1024 * 1024, ge=0, description="Bytes of outcomes remembered with them."
    )

    crash_journal_dir: Path = Field(
        default_factory=_state_directory,
        description="Directory of the crash journal, which must outlive the process.",
    )

    def slot_count(self) -> int:
        """Number of slots to run."""
        return len(os.sched_getaffinity(0)) if self.slots == "auto" else self.slots
