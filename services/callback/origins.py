"""Settings of single origins, from a file: secrets, limits, deadline and headers of their own.

Everything is checked when the service starts; an error names the file, the origin and the setting, and shows
no value, which may be a secret.
"""

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError
from yarl import URL

from services.callback.http_settings import CallbackHttpSettings
from services.callback.origin_queue import OriginLimits
from services.callback.signing import SecretError, Signer, derived_key, parse_secrets
from services.callback.targets import call_url, canonical_host

__all__ = ["Origin", "Origins", "OriginsError", "load_origins", "origin_of"]

OWN_HEADERS: Final = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "host",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Headers that a request of ours has, or must not have."""


ORIGINS_KEPT: Final = 10_000
"""Of those that the file does not name: a key is derived once, and not for each delivery."""

_AMBIGUOUS: Final = re.compile(r"/\.{1,2}(/|$)|//|\\|;|%(2e|2f|5c|25|3b)", re.IGNORECASE)
"""What a server may read as another path than it says: dot segments, and characters it may decode to one."""


class OriginsError(ValueError):
    """The file of destinations cannot be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """How calls to one origin are made."""

    name: str
    signer: Signer
    limits: OriginLimits
    timeout_s: float
    headers: Mapping[str, str] = field(repr=False)
    header_paths: tuple[str, ...] = ("/",)

    def headers_for(self, url: str) -> Mapping[str, str]:
        """The headers of its own that a call to `url` has: none outside of the paths they are meant for."""
        if self.header_paths == ("/",):
            return self.headers
        path = call_url(url).raw_path_qs.partition("?")[0]
        meant = path.startswith(self.header_paths) and not _AMBIGUOUS.search(path)
        return self.headers if meant else {}


class _OriginSettings(BaseModel):
    """One entry of the file; what is absent is as for every other origin."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    secrets: SecretStr | tuple[SecretStr, ...] = ()
    concurrency: int | None = Field(default=None, ge=1, le=1_000)
    queue: int | None = Field(default=None, ge=0, le=25_000)
    rate: float | None = Field(default=None, ge=0, le=100_000)
    timeout_ms: int | None = Field(default=None, ge=10, le=300_000)
    headers: dict[str, SecretStr] = Field(default_factory=dict)
    header_paths: tuple[str, ...] = Field(default=("/",), min_length=1)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    origins: dict[str, _OriginSettings] = Field(default_factory=dict)


class Origins:
    """Knows how to call each origin: as the file says, else by the general settings."""

    def __init__(self, settings: CallbackHttpSettings, named: Mapping[str, _OriginSettings]) -> None:
        masters = settings.webhook_master_secrets.get_secret_value()
        self._masters = parse_secrets(masters) if masters else ()
        general = settings.webhook_secrets.get_secret_value()
        self._general = Signer(() if self._masters else parse_secrets(general))
        self._settings = settings
        self._unnamed = lru_cache(ORIGINS_KEPT)(lambda name: self._build(name, _OriginSettings()))
        self._named = {name: self._build(name, own) for name, own in named.items()}

    def of(self, url: str) -> Origin:
        """How to call `url`.

        Raises:
            ValueError: it is no URL.
        """
        name = origin_of(URL(url))
        return self._named.get(name) or self._unnamed(name)

    def _build(self, name: str, own: _OriginSettings) -> Origin:
        general = self._settings
        if (own.queue or 0) > general.callback_queue:
            raise OriginsError(
                f"origin {name}: a queue of {own.queue} is longer than CONSUMA_CALLBACK_QUEUE, which is "
                f"{general.callback_queue}"
            )
        return Origin(
            name=name,
            signer=_signer(name, own) or self._general_signer(name),
            limits=OriginLimits(
                concurrency=own.concurrency or general.callback_concurrency,
                queue=general.callback_queue if own.queue is None else own.queue,
                queue_bytes=general.callback_queue_bytes,
                wait_s=general.callback_queue_wait_ms / 1000,
                rate=general.callback_rate if own.rate is None else own.rate,
            ),
            timeout_s=(own.timeout_ms or general.callback_timeout_ms) / 1000,
            headers=_headers(name, own),
            header_paths=_header_paths(name, own),
        )

    def _general_signer(self, origin: str) -> Signer:
        """With masters, nobody's secret lets it sign for another receiver."""
        if not self._masters:
            return self._general
        return Signer(tuple(derived_key(master, origin) for master in self._masters))


def load_origins(settings: CallbackHttpSettings) -> Origins:
    """The origins of the file that the settings name, if any.

    Raises:
        OriginsError: it cannot be read, or an entry is wrong.
        SecretError: a secret of the general settings is missing or is not one.
    """
    path = settings.destinations_file
    return Origins(settings, _read(path) if path is not None else {})


def origin_of(url: URL) -> str:
    """`scheme://host[:port]`, the port only where it is not the scheme's own, the host without final dots.

    Raises:
        ValueError: `url` has no host, or one that cannot be read.
    """
    return str(canonical_host(url).origin()).lower()


def _read(path: Path) -> dict[str, _OriginSettings]:
    """TOML, or JSON by the file's name: `origins`, each named by scheme, host and port."""
    try:
        text = path.read_text("utf-8")
        document = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
        entries = _File.model_validate(document).origins
    except ValidationError as error:
        raise OriginsError(f"{path}: {_first_problem(error)}") from None
    except (OSError, ValueError) as error:
        raise OriginsError(f"{path} (CONSUMA_DESTINATIONS_FILE): {error}") from None
    return {_named(path, name): entry for name, entry in entries.items()}


def _named(path: Path, name: str) -> str:
    try:
        url = URL(name)
        origin = origin_of(url)
    except ValueError as error:
        raise OriginsError(f"{path}: {name!r} is no origin: {error}") from None
    if url.scheme not in ("http", "https") or url.path not in ("", "/") or url.query_string or url.user:
        raise OriginsError(f"{path}: {origin!r} must be scheme://host[:port] and nothing more")
    return origin


def _first_problem(error: ValidationError) -> str:
    first = error.errors(include_input=False, include_url=False)[0]
    return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"


def _signer(name: str, own: _OriginSettings) -> Signer | None:
    secrets = (own.secrets,) if isinstance(own.secrets, SecretStr) else own.secrets
    if not secrets:
        return None
    try:
        return Signer(parse_secrets(" ".join(secret.get_secret_value() for secret in secrets)))
    except SecretError as error:
        raise OriginsError(f"origin {name}: {error}") from None


def _headers(name: str, own: _OriginSettings) -> dict[str, str]:
    headers = {header: value.get_secret_value() for header, value in own.headers.items()}
    for header, value in headers.items():
        if header.lower() in OWN_HEADERS or header.lower().startswith("webhook-"):
            raise OriginsError(f"origin {name}: the header {header!r} cannot be set")
        if not header.isascii() or not header.replace("-", "").replace("_", "").isalnum():
            raise OriginsError(f"origin {name}: {header!r} is no name of a header")
        if not value.isascii() or not value.isprintable():
            raise OriginsError(f"origin {name}: the value of {header!r} has characters that a header cannot")
    return headers


def _header_paths(name: str, own: _OriginSettings) -> tuple[str, ...]:
    for path in own.header_paths:
        if not path.startswith("/") or not path.isascii() or _AMBIGUOUS.search(path) or "?" in path:
            raise OriginsError(
                f"origin {name}: {path!r} in header_paths is not the plain beginning of a path"
            )
    return own.header_paths
