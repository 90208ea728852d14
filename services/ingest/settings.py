"""Settings of the ingest service."""

import ipaddress
from typing import Final, Self

from pydantic import Field, model_validator

from shared.events.submit_settings import SubmitKeySettings
from shared.settings import DatabaseSettings, Port, ServiceSettings

__all__ = ["IngestSettings"]

MIB: Final = 1024 * 1024


class IngestSettings(ServiceSettings, DatabaseSettings, SubmitKeySettings):
    """The HTTP API. Its bounds add up: away from Kafka or the database, a caller hears so within 2 s."""

    listen_host: str = Field(default="127.0.0.1", description="Address of the HTTP API.")
    listen_port: Port = Field(default=8000, description="Port of the HTTP API; 0 lets the system choose.")
    workers: int = Field(default=1, ge=1, le=64, description="Processes that share the port.")
    allowed_hosts: tuple[str, ...] = Field(
        default=(),
        description="Further values of the Host header, without port, that a loopback address answers to.",
    )
    trusted_network: bool = Field(
        default=False,
        description="Listen beyond loopback although callers are not authenticated: a gateway in front does.",
    )

    body_limit_bytes: int = Field(default=MIB, ge=1_024, le=MIB, description="Longest request body, bytes.")
    body_memory_bytes: int = Field(
        default=128 * MIB,
        ge=MIB,
        description="Bytes of all bodies being read or on their way into the log; beyond it 503.",
    )
    body_timeout_s: float = Field(
        default=30.0, gt=0, description="Longest time that a caller takes to send a body, in s."
    )
    max_requests: int = Field(
        default=4_000, ge=1, description="HTTP requests in work at a time; beyond it the answer is 503."
    )

    sync_wait_s: float = Field(
        default=30.0, ge=0, description="How long a sync call waits for its outcome before 202, in s."
    )
    max_wait_s: float = Field(
        default=120.0,
        ge=0,
        description="Longest wait that a caller may ask for (`Prefer: wait`, `?wait`), s.",
    )
    max_waiting: int = Field(
        default=2_000, ge=1, description="Callers waiting for outcomes at a time; beyond it 503."
    )
    max_polling: int = Field(
        default=200, ge=1, description="Callers of `?wait` at a time, who ask the database again and again."
    )
    max_sends: int = Field(
        default=1_000, ge=1, description="Submissions waiting for the log's acknowledgement; beyond it 503."
    )
    accept_timeout_ms: int = Field(
        default=1_500, ge=100, description="Longest wait for the acknowledgement of a submission, in ms."
    )

    query_timeout_ms: int = Field(default=1_500, ge=50, description="Deadline of a caller's query, in ms.")
    idempotency_lookup_ms: int = Field(
        default=300, ge=10, description="Deadline of looking a repeated submission up, in ms."
    )
    visibility_wait_ms: int = Field(
        default=1_600, ge=0, description="Longest wait for the projection before an id is called unknown, ms."
    )
    recent_submissions: int = Field(
        default=20_000, ge=0, description="Submissions with an Idempotency-Key that an instance remembers."
    )
    stop_wait_ms: int = Field(
        default=2_000, ge=0, description="How long a stopping instance lets waiting sync calls wait on, ms."
    )

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine can connect."""
        if self.listen_host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.listen_host).is_loopback
        except ValueError:
            return False

    @model_validator(mode="after")
    def _refuse_open_door(self) -> Self:
        if not self.on_loopback and not self.trusted_network:
            raise ValueError(
                f"callers on {self.listen_host} would not be authenticated: listen on 127.0.0.1, or put a "
                "gateway that authenticates in front and set CONSUMA_TRUSTED_NETWORK=true"
            )
        if not self.on_loopback and not self.submit_keys.get_secret_value().strip():
            raise ValueError(
                "ingest would not sign what it accepts, so that anybody could take a request's id: "
                "set CONSUMA_SUBMIT_KEYS to subkey_ and base64 of 32 random bytes, the same for ingest, "
                "compute and projector (docs/operating.md tells in which order)"
            )
        return self
