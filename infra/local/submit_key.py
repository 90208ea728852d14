"""The key that ingest signs with while nobody has given one, and since when it does."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from infra.local.errors import LocalError
from infra.local.webhook_secret import kept, random_base64
from shared.events.submit_keys import SubmitKeys

__all__ = ["KEY_NAME", "development_key", "submit_environment"]

KEY_NAME: Final = "submit-key"
KEYS: Final = "CONSUMA_SUBMIT_KEYS"
UNSIGNED_UNTIL: Final = "CONSUMA_SUBMIT_UNSIGNED_UNTIL"


def submit_environment(data_dir: Path, given: Mapping[str, str]) -> dict[str, str]:
    """The keys for every service: those in `given` first, then those of this data directory.

    The log may hold records that each of them has signed. A directory without a file of keys gets one only
    if none are given: the file says that nothing was signed before its making. A given time goes before
    the file's.

    Raises:
        LocalError: the file is damaged.
    """
    keys = given.get(KEYS, "").split()
    if keys and not (data_dir / KEY_NAME).exists():
        return {}
    own, unsigned_until = development_key(data_dir)
    return {
        KEYS: " ".join(dict.fromkeys([*keys, *own.split()])),
        UNSIGNED_UNTIL: given.get(UNSIGNED_UNTIL) or unsigned_until,
    }


def development_key(data_dir: Path) -> tuple[str, str]:
    """The keys of this data directory, and the time before which nothing was signed, as RFC 3339 text.

    Both are made when first asked for: what the log holds by then was written without a key. The file has
    the keys in its first line, and the time in its second; only its owner can read it.

    Raises:
        LocalError: the file holds something else.
    """
    path = data_dir / KEY_NAME
    lines = kept(path, _made_now).splitlines()
    try:
        keys, unsigned_until = lines
        SubmitKeys.parse(keys, datetime.fromisoformat(unsigned_until))
    except ValueError:
        raise LocalError(
            f"{path} is damaged: it has to hold the keys of this data directory (subkey_ and base64) in its "
            "first line, and the time of their making (RFC 3339) in its second; put a copy of it back. If "
            "there is none, remove the file for a new key: requests of the API that are in the log lose "
            "their ids then"
        ) from None
    return keys, unsigned_until


def _made_now() -> str:
    return f"subkey_{random_base64()}\n{datetime.now(UTC).isoformat(timespec='milliseconds')}"
