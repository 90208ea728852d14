"""Settings of the callback service."""

from typing import Final, Self

from pydantic import Field, field_validator, model_validator

from services.callback.http_settings import CallbackHttpSettings
from services.callback.origin_queue import LONGEST_WAITS
from shared.domain.delay import parse_schedule
from shared.domain.retry_policy import DeferralPolicy, ErrorClass, RetryPolicy
from shared.settings import ServiceSettings

__all__ = ["CallbackSettings"]

MIB: Final = 1024 * 1024


class CallbackSettings(ServiceSettings, CallbackHttpSettings):
    """One process: one member of the consumer group that makes deliveries."""

    retry_schedule: str = Field(
        default="1s,5s,30s,2m,10m,1h",
        description="Delays before the second and later attempts; after the last one a delivery is given up.",
    )
    retry_schedules: dict[ErrorClass, str] = Field(
        default_factory=dict,
        description='Schedules of single classes of errors, as JSON: {"dns": "30s,10m", "http_429": "5s"}.',
    )
    deferral_schedule: str = Field(
        default="1s,1s,5s,5s,5s,30s,30s,30s,2m",
        description=(
            "Shortest waits of a delivery whose destination is left alone, the last one repeated; it goes "
            "sooner if that is found to be well."
        ),
    )
    deferral_limit_ms: int = Field(
        default=24 * 3_600_000,
        ge=0,
        description="Longest time that an attempt is put off before the delivery is given up, in ms.",
    )
    read_back_facts: int = Field(
        default=50_000,
        ge=0,
        description="Facts of a partition that are read at its assignment, to know what is settled.",
    )
    callback_window: int = Field(
        default=1_000, ge=2, le=100_000, description="Records of one partition that wait or are in work."
    )
    callback_window_bytes: int = Field(
        default=16 * MIB, ge=MIB, description="Bytes of one partition's records that wait or are in work."
    )

    @field_validator("retry_schedule", "deferral_schedule")
    @classmethod
    def _parse_schedule(cls, text: str) -> str:
        parse_schedule(text)
        return text

    @field_validator("retry_schedules")
    @classmethod
    def _parse_schedules(cls, texts: dict[ErrorClass, str]) -> dict[ErrorClass, str]:
        for text in texts.values():
            parse_schedule(text)
        return texts

    @model_validator(mode="after")
    def _fit_retention(self) -> Self:
        """A delivery has to end while its events are kept, or a rebuild would lose what became of it."""
        if not parse_schedule(self.deferral_schedule):
            raise ValueError("the deferral schedule is empty: name at least one wait, such as 1s")
        worst_ms = self.worst_case_ms()
        if worst_ms >= self.retention_ms:
            raise ValueError(
                f"a callback may take {worst_ms / 3_600_000:.1f} h until it is given up, but events are kept "
                f"for {self.retention_ms / 3_600_000:.1f} h: shorten CONSUMA_RETRY_SCHEDULE(S), "
                "CONSUMA_RETRY_AFTER_CAP_MS or CONSUMA_DEFERRAL_LIMIT_MS, or raise CONSUMA_RETENTION_MS"
            )
        return self

    @model_validator(mode="after")
    def _leave_room_in_the_window(self) -> Self:
        """What waits for calls takes less than half of a partition's window: a full one is fetched again."""
        most, most_bytes = self.callback_window // 4, self.callback_window_bytes // 4
        if self.callback_queue > most or self.callback_queue_bytes > most_bytes:
            raise ValueError(
                f"CONSUMA_CALLBACK_QUEUE may be {most} at most and its _BYTES {most_bytes}, a quarter of "
                "CONSUMA_CALLBACK_WINDOW and of its _BYTES: lower the former or raise the latter"
            )
        return self

    def retry_policy(self) -> RetryPolicy:
        """When to try again, and how often."""
        return RetryPolicy(
            ladder_ms=tuple(parse_schedule(self.retry_schedule)),
            ladders={each: tuple(parse_schedule(text)) for each, text in self.retry_schedules.items()},
            retry_after_cap_ms=self.retry_after_cap_ms,
        )

    def deferral_policy(self) -> DeferralPolicy:
        """How long to put off what cannot be attempted."""
        return DeferralPolicy(
            ladder_ms=tuple(parse_schedule(self.deferral_schedule)), limit_ms=self.deferral_limit_ms
        )

    def worst_case_ms(self) -> int:
        """Longest time from the first attempt of a delivery to its end, while this service runs."""
        policy = self.retry_policy()
        # In the queue before the first deferral and after the last one, and for the rate.
        in_queue_ms = (2 * LONGEST_WAITS + 1) * self.callback_queue_wait_ms
        one_attempt_ms = self.deferral_policy().worst_case_ms() + in_queue_ms + self.callback_timeout_ms
        return policy.worst_case_ms() + policy.most_attempts() * one_attempt_ms
