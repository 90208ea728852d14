"""Headers are a submitter's own, of any bytes, number and size: none of them stops a partition."""

import base64

import pytest

from services.compute.settings import ComputeSettings
from tests.integration.compute.services import computing
from tests.integration.compute.support import nap

pytestmark = pytest.mark.kafka


async def test_a_header_without_a_value_does_not_stop_the_partition(settings: ComputeSettings) -> None:
    async with computing(settings) as made:
        await made.send_bytes(b"{", partition=0, headers=[("bare", None)])  # type: ignore[list-item]
        request, odd = nap(1, 7), nap(1, 8)
        await made.send(odd, partition=0, headers=[("ce_type", None), ("traceparent", None)])  # type: ignore[list-item]
        await made.send(request, partition=0)
        assert await made.result(request) == {"value": 7}
        assert await made.result(odd) == {"value": 8}
        assert (await made.dead_letters())[0].headers_base64 == (("bare", ""),)


async def test_a_name_of_a_header_that_is_no_text_does_not_stop_the_partition(
    settings: ComputeSettings,
) -> None:
    async with computing(settings) as made:
        bad = nap(1, 8)
        await made.send_renamed(bad, b"~~", b"\xff\xfe", partition=0)
        request = nap(1, 7)
        await made.send(request, partition=0)
        assert await made.result(request) == {"value": 7}
        assert await made.result(bad) == {"value": 8}


async def test_any_number_of_empty_headers_fits_a_dead_letter(settings: ComputeSettings) -> None:
    async with computing(settings) as made:
        await made.send_bytes(b"{", partition=0, headers=[("", b"")] * 655_200)
        request = nap(1, 7)
        await made.send(request, partition=0)
        assert await made.result(request) == {"value": 7}
        letter = (await made.dead_letters())[0]
        assert base64.b64decode(letter.value_base64 or "") == b"{"
