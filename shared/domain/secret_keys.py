"""Keys as settings hold them: a prefix that tells their kind, then base64."""

import base64
import binascii
from typing import Final

__all__ = ["key_bytes"]

SHORTEST_BYTES: Final = 24
LONGEST_BYTES: Final = 64
"""The sizes that Standard Webhooks allow; at most a block of SHA-256, so that every key is used as it is."""


def key_bytes(text: str, prefix: str) -> bytes:
    """The bytes of a key.

    Raises:
        ValueError: it is none; the message is the predicate of a sentence about it, and never holds the key.
    """
    if not text.startswith(prefix):
        raise ValueError(f"does not start with {prefix}")
    try:
        found = base64.b64decode(text.removeprefix(prefix), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"is not base64 after {prefix}") from None
    if not SHORTEST_BYTES <= len(found) <= LONGEST_BYTES:
        raise ValueError(f"has {len(found)} bytes; {SHORTEST_BYTES} to {LONGEST_BYTES} are allowed")
    return found
