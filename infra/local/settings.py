"""Settings of the local system."""

import os
from pathlib import Path
from typing import Final

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.settings import Port

__all__ = ["LocalSettings"]

MAVEN_CENTRAL: Final = "https://repo.maven.apache.org/maven2"


def _user_cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".cache") / "consuma"


class LocalSettings(BaseSettings):
    """Where the local system keeps its files, which ports it takes, and what it need not start itself."""

    model_config = SettingsConfigDict(env_prefix="CONSUMA_", frozen=True, extra="ignore")

    data_dir: Path = Field(default=Path(".consuma"), description="Directory of the data, logs and secrets.")
    cache_dir: Path = Field(
        default_factory=_user_cache, description="Directory of the downloaded broker and database."
    )
    maven_url: str = Field(
        default=MAVEN_CENTRAL,
        pattern=r"^https?://",
        description="Repository that they are downloaded from: Maven Central or a mirror of it.",
    )
    listen_port: Port = Field(default=8000, description="Port of the HTTP API; 0 takes a free one.")
    kafka: str = Field(
        default="", description="Bootstrap servers of a running broker; empty: the embedded one is started."
    )
    mysql: SecretStr = Field(
        default=SecretStr(""), description="URL of a running database; empty: the embedded one is started."
    )
    kafka_port: Port = Field(default=9092, description="Port of the embedded broker; 0 takes a free one.")
    mysql_port: Port = Field(default=3307, description="Port of the embedded database; 0 takes a free one.")
    start_timeout_s: float = Field(
        default=90.0, gt=0, description="How long everything may take to become ready, downloads apart, in s."
    )
    drain_timeout_ms: int = Field(
        default=10_000, ge=0, description="How long a stopping service lets running work finish, in ms."
    )
    log_bytes: int = Field(
        default=10 * 1024 * 1024, ge=10_000, description="Size at which a log file is put aside, in bytes."
    )
