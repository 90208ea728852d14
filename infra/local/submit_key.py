"""The key that ingest signs with while nobody has given one, and since when it does."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from infra.local.webhook_secret import kept, random_base64

__all__ = ["KEY_NAME", "development_key"]

KEY_NAME: Final = "submit-key"


def development_key(data_dir: Path) -> tuple[str, str]:
    """The keys of this data directory, and the time before which nothing was signed, as RFC 3339 text.

    Both are made when first asked for: what the log holds by then was written without a key. The file has
    the keys in its first line, and the time in its second; only its owner can read it.
    """
    keys, unsigned_until = kept(data_dir / KEY_NAME, _made_now).splitlines()
    return keys, unsigned_until


def _made_now() -> str:
    return f"subkey_{random_base64()}\n{datetime.now(UTC).isoformat(timespec='milliseconds')}"
