"""Only holders of a key submit as ingest: nobody takes another's request id, its answer or its callback."""

from base64 import b64encode

import msgspec
import pytest
from pydantic import SecretStr

from services.compute.settings import ComputeSettings
from shared.domain.identity import id_of_idempotency_key, id_of_reference
from shared.domain.types import Mode, RequestId
from shared.events.codec import EncodedEvent, Origin
from shared.events.submission import INGEST_SOURCE, RequestData, encode_submission
from shared.events.submit_keys import NO_KEYS, SubmitKeys
from tests.integration.compute.services import computing
from tests.integration.compute.support import Wanted

pytestmark = pytest.mark.kafka

KEY = "subkey_" + b64encode(b"k" * 32).decode()
VICTIM = id_of_idempotency_key("shop", "order-1234")


def submission(value: int, event_id: str, keys: SubmitKeys) -> EncodedEvent:
    data = RequestData(operation="nap", input=msgspec.Raw(b'{"ms":0,"value":%d}' % value), source="rest")
    origin = Origin(event_id=event_id, source=INGEST_SOURCE, now_ms=1)
    return encode_submission(VICTIM, data, origin, Mode.ASYNC, keys=keys)


def known_as(request_id: RequestId) -> Wanted:
    return Wanted(value=b"", request_id=request_id)


async def test_a_forged_record_is_a_request_of_its_own_and_the_real_one_is_computed(
    settings: ComputeSettings,
) -> None:
    async with computing(settings, submit_keys=SecretStr(KEY)) as made:
        forged = submission(666, "forged", NO_KEYS)
        real = submission(7, "real", SubmitKeys.parse(KEY))
        for each in (forged, real):
            await made.send_bytes(each.value, partition=0, headers=each.headers)
        assert await made.result(known_as(VICTIM)) == {"value": 7}
        assert await made.result(known_as(id_of_reference(INGEST_SOURCE, "forged"))) == {"value": 666}
