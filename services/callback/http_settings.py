"""Settings of the HTTP side of the callback service: secrets, deadlines, limits, allowed networks."""

from pathlib import Path
from typing import Final

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import SettingsConfigDict

from services.callback.signing import parse_secrets
from shared.domain.address_policy import parse_networks
from shared.open_files import open_files
from shared.settings import KafkaSettings

__all__ = ["CallbackHttpSettings", "parse_ports"]

LAST_PORT: Final = 65_535
OWN_FILES: Final = 256
"""For connections to brokers and those that are kept though idle."""


class CallbackHttpSettings(KafkaSettings):
    """What sending callbacks needs. Limits of single origins come from the file of destinations."""

    model_config = SettingsConfigDict(hide_input_in_errors=True)  # a mistyped secret is one all the same

    webhook_secrets: SecretStr = Field(
        default=SecretStr(""),
        description=(
            "Signing secrets (whsec_ and base64), separated by spaces: every one signs, the first one first."
        ),
    )
    webhook_master_secrets: SecretStr = Field(
        default=SecretStr(""),
        description=(
            "Masters (whsec_ and base64), separated by spaces: with one, each origin has a secret of its own."
        ),
    )
    callback_timeout_ms: int = Field(
        default=30_000, ge=10, le=300_000, description="Deadline of one attempt, its answer included, in ms."
    )
    callback_connect_timeout_ms: int = Field(
        default=5_000,
        ge=10,
        le=300_000,
        description="Deadline for name lookup, connection and TLS handshake, in ms.",
    )
    callback_allow: str = Field(
        default="",
        description=(
            "Networks that callbacks may reach although not public, comma-separated: 10.1.0.0/16,::1."
        ),
    )
    callback_ports: str = Field(
        default="", description="Ports that callbacks may go to, comma-separated; empty for all."
    )
    callback_proxy: SecretStr | None = Field(
        default=None,
        description="Forward proxy (http://host:port) for every callback; it then decides what is reachable.",
    )
    callback_ca_file: Path | None = Field(
        default=None, description="Certificates (PEM) that receivers are trusted by besides the system's."
    )
    callback_concurrency: int = Field(
        default=8, ge=1, le=1_000, description="Most calls to one origin at a time, and its connections."
    )
    callback_idle_connections: int = Field(
        default=1_000,
        ge=0,
        le=100_000,
        description="Most connections kept for later calls, all origins together; each is a descriptor.",
    )
    callback_queue: int = Field(
        default=250,
        ge=0,
        le=25_000,
        description=(
            "Most of a partition that wait for a call to an origin or are in it; to all, half as many again."
        ),
    )
    callback_queue_bytes: int = Field(
        default=4 * 1024 * 1024,
        ge=64 * 1024,
        description="Most bytes of such deliveries; to all origins, half as many again.",
    )
    callback_queue_wait_ms: int = Field(
        default=5_000,
        ge=0,
        le=30_000,
        description=(
            "How long a call may take until nobody waits beside it, in ms; the longest wait is four such."
        ),
    )
    callback_total_concurrency: int = Field(
        default=4_096,
        ge=1,
        le=20_000,
        description=(
            "Most calls at a time, all origins together, and as many sockets; a submitter or an address has "
            "a quarter of them at most."
        ),
    )
    callback_rate: float = Field(
        default=0.0, ge=0.0, description="Most calls a second to one origin; 0 for no limit."
    )
    retry_after_cap_ms: int = Field(
        default=3_600_000, ge=0, description="Most that a receiver's Retry-After can put calls off, in ms."
    )
    breaker_failures: int = Field(
        default=5, ge=1, le=1_000, description="Failures in a row after which a destination is left alone."
    )
    breaker_open_ms: int = Field(
        default=5_000, ge=10, description="How long it is left alone the first time, in ms; then ever longer."
    )
    breaker_max_open_ms: int = Field(
        default=60_000, ge=10, description="Longest time between two probes of such a destination, in ms."
    )
    destinations_file: Path | None = Field(
        default=None, description="Settings of single origins, TOML or JSON: docs/callbacks.md shows one."
    )

    @property
    def most_calls(self) -> int:
        """Most calls at a time: each has a socket, and the process needs some files for itself."""
        return max(1, min(self.callback_total_concurrency, open_files() - OWN_FILES))

    @property
    def begin_reserve(self) -> int:
        """Deliveries of a partition that may be in a call besides, if it can begin at once."""
        return self.callback_queue // 4

    @property
    def all_queues(self) -> int:
        """Most deliveries of a partition that wait for calls to any origin, or are in them."""
        return self.callback_queue * 3 // 2 + self.callback_concurrency

    @property
    def all_queues_bytes(self) -> int:
        """Most bytes of such deliveries."""
        return self.callback_queue_bytes * 3 // 2

    @field_validator("webhook_secrets", "webhook_master_secrets")
    @classmethod
    def _check_secrets(cls, secrets: SecretStr) -> SecretStr:
        if secrets.get_secret_value():
            parse_secrets(secrets.get_secret_value())
        return secrets

    @field_validator("callback_allow")
    @classmethod
    def _check_networks(cls, text: str) -> str:
        parse_networks(text)
        return text

    @field_validator("callback_ports")
    @classmethod
    def _check_ports(cls, text: str) -> str:
        parse_ports(text)
        return text


def parse_ports(text: str) -> frozenset[int]:
    """Ports separated by commas.

    Raises:
        ValueError: one of them is no port.
    """
    ports = frozenset(int(port) for port in text.split(",") if port.strip())
    if any(not 1 <= port <= LAST_PORT for port in ports):
        raise ValueError(f"a port is a number from 1 to {LAST_PORT}")
    return ports
