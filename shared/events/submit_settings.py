"""Settings of whoever writes or reads the request topics: the keys by which ingest's records are known."""

from typing import Self

import structlog
from pydantic import AwareDatetime, Field, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict

from shared.events.submit_keys import SubmitKeys
from shared.settings import KafkaSettings

__all__ = ["SubmitKeySettings"]

log = structlog.get_logger()


class SubmitKeySettings(KafkaSettings):
    """The same for ingest, compute and projector: they have to agree on every request's id."""

    model_config = SettingsConfigDict(hide_input_in_errors=True)  # a mistyped key is a secret all the same

    submit_keys: SecretStr = Field(
        default=SecretStr(""),
        description="Keys (subkey_ and base64), separated by spaces, by which ingest's records are known: "
        "the first one signs, every one verifies.",
    )
    submit_unsigned_until: AwareDatetime | None = Field(
        default=None,
        description="Until when (RFC 3339, the broker's time) ingest wrote records without a signature.",
    )

    def keys(self) -> SubmitKeys:
        """The keys. Without any, whoever can write to the request topics can take any request's id."""
        keys = SubmitKeys.parse(self.submit_keys.get_secret_value(), self.submit_unsigned_until)
        if not keys.keys:
            log.warning(
                "submissions.unsigned",
                hint="set CONSUMA_SUBMIT_KEYS, the same for ingest, compute and projector: without it any "
                "producer's claim to be ingest is believed",
            )
        return keys

    @model_validator(mode="after")
    def _check_keys(self) -> Self:
        SubmitKeys.parse(self.submit_keys.get_secret_value())
        return self
