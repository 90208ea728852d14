"""Standard Webhooks signatures: HMAC-SHA256 over `id.timestamp.body`, one for each secret."""

import base64
import hmac
from dataclasses import dataclass, field
from typing import Final

from shared.domain.secret_keys import key_bytes

__all__ = ["SecretError", "Signer", "derived_key", "parse_secrets", "secret_text"]

PREFIX: Final = "whsec_"
DERIVED_FOR: Final = b"consuma-webhook-origin-v1:"
"""Part of every derivation: a master that signs anything else never gives the same bytes."""


class SecretError(ValueError):
    """A signing secret is not one. The message never holds the secret."""


def parse_secrets(text: str) -> tuple[bytes, ...]:
    """The keys in `text`, which holds secrets separated by blanks, in their order.

    Raises:
        SecretError: one of them is not `whsec_` and base64 of 24 to 64 bytes, or there is none.
    """
    secrets = text.split()
    if not secrets:
        raise SecretError(
            "no signing secret: set CONSUMA_WEBHOOK_SECRETS or CONSUMA_WEBHOOK_MASTER_SECRETS to whsec_ and "
            "base64 of 32 random bytes"
        )
    return tuple(_key(secret, number) for number, secret in enumerate(secrets, start=1))


def _key(secret: str, number: int) -> bytes:
    try:
        return key_bytes(secret, PREFIX)
    except ValueError as error:
        raise SecretError(f"signing secret {number} {error}") from None


def derived_key(master: bytes, origin: str) -> bytes:
    """The key of one origin, `scheme://host[:port]` as `origin_of` spells it: no other follows from it."""
    return hmac.digest(master, DERIVED_FOR + origin.encode(), "sha256")


def secret_text(key: bytes) -> str:
    """`key` as receivers and settings hold it."""
    return PREFIX + base64.b64encode(key).decode()


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs with every key; the first is the current one, the others are on their way out or in."""

    keys: tuple[bytes, ...] = field(repr=False)

    def headers(self, webhook_id: str, timestamp_s: int, body: bytes) -> dict[str, str]:
        """The three headers by which a receiver recognises, dates and trusts a callback."""
        signed = f"{webhook_id}.{timestamp_s}.".encode() + body
        signatures = (base64.b64encode(hmac.digest(key, signed, "sha256")).decode() for key in self.keys)
        return {
            "webhook-id": webhook_id,
            "webhook-timestamp": str(timestamp_s),
            "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
        }
