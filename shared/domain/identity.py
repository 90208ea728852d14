"""Who a request is: ids are derived, so that a repeated submission is the same request."""

from typing import Final
from uuid import UUID, uuid5

from shared.domain.types import RequestId

__all__ = ["canonical_uuid", "id_of_idempotency_key", "id_of_position", "id_of_reference"]

NAMESPACE: Final = UUID("5f0f3c0e-6c0a-5d3b-9d6e-2f6a1b7c8d90")
"""Root of every derived id. Changing it makes every repeated submission a new request."""

_SEPARATOR: Final = "\x00"


def id_of_reference(source: str, reference: str) -> RequestId:
    """Id of what a direct producer calls `reference`; producers of different sources never collide."""
    return _derive("reference", source, reference)


def id_of_position(topic: str, partition: int, offset: int, timestamp_ms: int) -> RequestId:
    """Id of a record that names none. The timestamp tells a re-created topic's records apart."""
    return _derive("position", topic, str(partition), str(offset), str(timestamp_ms))


def id_of_idempotency_key(caller: str, key: str) -> RequestId:
    """Id of a REST call with an `Idempotency-Key`, per caller."""
    return _derive("idempotency-key", caller, key)


def canonical_uuid(text: str) -> RequestId | None:
    """`text` as a request id in canonical form, or None when it is no UUID."""
    try:
        return RequestId(str(UUID(text)))
    except ValueError:
        return None


def _derive(*parts: str) -> RequestId:
    return RequestId(str(uuid5(NAMESPACE, _SEPARATOR.join(parts))))
