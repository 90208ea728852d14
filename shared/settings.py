"""Settings that every service shares.

Each service subclasses `ServiceSettings` with what it alone needs. Values come from the environment
(`CONSUMA_…`), are validated once at start and never change afterwards.
"""

from typing import Annotated, Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

__all__ = ["DatabaseSettings", "KafkaSettings", "ServiceSettings"]

Port = Annotated[int, Field(ge=0, le=65535)]


class _Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="CONSUMA_", frozen=True, extra="ignore")


class KafkaSettings(_Settings):
    """How to reach the log and what the topics are called."""

    kafka: str = Field(default="127.0.0.1:9092", description="Bootstrap servers, comma-separated host:port.")
    topic_prefix: str = Field(
        default="consuma.",
        pattern=r"^[a-zA-Z0-9._-]{1,64}$",
        description="First part of the name of every topic, consumer group and transactional id.",
    )
    partitions: int = Field(
        default=8, ge=1, le=4096, description="Partitions of every topic that is keyed by request id."
    )
    replication: int = Field(
        default=1, ge=1, le=9, description="Replicas of each partition; 3 in production (min.insync 2)."
    )
    retention_ms: int = Field(
        default=90 * 24 * 3600 * 1000,
        ge=60_000,
        description="How long events are kept, in ms: the horizon from which tables can be rebuilt.",
    )
    session_timeout_ms: int = Field(
        default=30_000,
        ge=6_000,
        le=300_000,
        description="Silence after which a group drops a member, ms.",
    )
    send_timeout_ms: int = Field(
        default=5_000, ge=100, description="Longest wait for a broker's acknowledgement, in ms."
    )


class DatabaseSettings(_Settings):
    """How to reach the read side."""

    mysql: SecretStr = Field(
        default=SecretStr("mysql+aiomysql://root@127.0.0.1:3307/consuma"),
        description="SQLAlchemy URL of the database of the read side (MySQL 8.0+ or MariaDB 10.11+).",
    )
    query_timeout_ms: int = Field(default=2_000, ge=50, description="Deadline of a caller's query, in ms.")
    write_timeout_ms: int = Field(
        default=30_000, ge=100, description="Deadline of one projected batch, in ms."
    )


class ServiceSettings(KafkaSettings):
    """What every service process needs besides its own settings."""

    instance: str = Field(
        default="local-0",
        pattern=r"^[a-z][a-z0-9-]{0,40}-[0-9]{1,4}$",
        description="Name and slot number, unique among living processes: the static group identity.",
    )
    records_bytes: int = Field(
        default=256 * 1024 * 1024,
        ge=1024 * 1024,
        description="Bytes of fetched records in work or waiting for it, in the whole process.",
    )
    health_host: str = Field(default="127.0.0.1", description="Address of health and metrics.")
    health_port: Port = Field(default=0, description="Port of health and metrics; 0 lets the system choose.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severe log line to be written."
    )
    log_format: Literal["json", "console"] = Field(default="json", description="Shape of the log lines.")
    drain_timeout_ms: int = Field(
        default=20_000, ge=0, description="How long a stopping process lets running work finish, in ms."
    )
