"""The signature by which readers of the log know that ingest wrote a submission.

Ingest alone gives ids to requests; of anybody else the id is derived. So a record is believed to be ingest's
only if it is signed with a key that ingest shares with the readers. Signed is what decides about the request:
its id, its mode, where the reply goes, and the value with everything that is asked.
"""

import base64
import hashlib
import hmac
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Self

import msgspec

from shared.domain.secret_keys import key_bytes

__all__ = ["NO_KEYS", "SIGNATURE_HEADER", "SubmitKeyError", "SubmitKeys"]

SIGNATURE_HEADER: Final = "consuma-signature"
PREFIX: Final = "subkey_"
VERSION: Final = b"v1,"
Signed = tuple[str, ...]

_encoder: Final = msgspec.msgpack.Encoder()


class SubmitKeyError(ValueError):
    """A key is not one. The message never holds the key."""


class _Key:
    """HMAC-SHA256 with one key, whose two inner states are computed once: a fifth of the time."""

    def __init__(self, key: bytes) -> None:
        block = key.ljust(64, b"\0")
        self._inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in block))
        self._outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in block))

    def digest(self, *parts: bytes) -> bytes:
        """What `hmac.digest` returns for all parts together."""
        inner, outer = self._inner.copy(), self._outer.copy()
        for part in parts:
            inner.update(part)
        outer.update(inner.digest())
        return outer.digest()


@dataclass(frozen=True, slots=True)
class SubmitKeys:
    """The keys of an installation: the first one signs, every one verifies.

    Without any key nobody can tell who wrote a record, and ingest's word is taken for it.

    Args:
        keys: what signatures are made with.
        unsigned_until_ms: records that the broker took before are believed without a signature: time in ms
            since the epoch, 0 for none.
    """

    keys: tuple[_Key, ...] = ()
    unsigned_until_ms: int = 0

    @classmethod
    def parse(cls, text: str, unsigned_until: datetime | None = None) -> Self:
        """The keys in `text`, which holds them separated by blanks, in their order; or none.

        Raises:
            SubmitKeyError: one of them is not `subkey_` and base64 of 24 to 64 bytes.
        """
        keys = tuple(_Key(_bytes_of(key, number)) for number, key in enumerate(text.split(), start=1))
        return cls(keys, 0 if unsigned_until is None else round(unsigned_until.timestamp() * 1000))

    def sign(self, about: Signed, value: bytes) -> bytes | None:
        """The signature of a record, as the value of its header; None without a key."""
        if not self.keys:
            return None
        return VERSION + base64.b64encode(self.keys[0].digest(_encoder.encode(about), value))

    def believe(self, signature: bytes | None, about: Signed, value: bytes, taken_ms: int | None) -> bool:
        """Whether ingest wrote the record that `about` and `value` describe.

        `taken_ms` is when the broker took it; None if nobody but its producer says so.
        """
        if not self.keys or (taken_ms is not None and taken_ms < self.unsigned_until_ms):
            return True
        if signature is None or not signature.startswith(VERSION):
            return False
        claimed, signed = signature[len(VERSION) :], _encoder.encode(about)
        for key in self.keys:
            if hmac.compare_digest(base64.b64encode(key.digest(signed, value)), claimed):
                return True
        return False


NO_KEYS: Final = SubmitKeys()


def _bytes_of(key: str, number: int) -> bytes:
    try:
        return key_bytes(key, PREFIX)
    except ValueError as error:
        raise SubmitKeyError(f"key {number} of CONSUMA_SUBMIT_KEYS {error}") from None
