"""Settings of the projector."""

from pydantic import Field

from shared.events.submit_settings import SubmitKeySettings
from shared.settings import DatabaseSettings, ServiceSettings

__all__ = ["ProjectorSettings"]


class ProjectorSettings(ServiceSettings, DatabaseSettings, SubmitKeySettings):
    """One process that projects, or stands by to take over."""

    batch_records: int = Field(default=1_000, ge=1, le=10_000, description="Most records in one transaction.")
    batch_bytes: int = Field(
        default=4 * 1024 * 1024,
        ge=1,
        le=64 * 1024 * 1024,
        description="Bytes of records after which a transaction takes no more.",
    )
    batch_interval_ms: int = Field(
        default=100,
        ge=0,
        le=1_000,
        description="Least time from one transaction's start to the next, in ms, while they are not full.",
    )
