"""Many deliveries for a slow destination hold up neither their neighbours nor a stop."""

import pytest

from services.callback.delay_queue import wall_clock_ms
from services.callback.settings import CallbackSettings
from shared.kafka.topics import Topic
from shared.testing.receiver import Receiver
from tests.integration.callback.support import SECRET, append, outcome, process, until

pytestmark = pytest.mark.kafka

SLOW_CALLS = 400
CALL_MS = 400
SLOW_TAKES_S = SLOW_CALLS * CALL_MS / 1000 / 8
"""Twenty seconds, eight at a time: a queue that moves, so that those who wait in it stay."""


async def test_a_slow_destination_with_many_deliveries_does_not_hold_up_another_one(
    settings: CallbackSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONSUMA_CALLBACK_WINDOW", "80")
    monkeypatch.setenv("CONSUMA_CALLBACK_QUEUE", "20")
    async with Receiver(secrets=[SECRET]) as slow, Receiver(secrets=[SECRET]) as healthy:
        slow_url = slow.url(delay_ms=CALL_MS)
        await append(settings, Topic.RESULTS, [outcome(number, slow_url) for number in range(SLOW_CALLS)])
        others = range(SLOW_CALLS, SLOW_CALLS + 40)
        await append(settings, Topic.RESULTS, [outcome(number, healthy.url()) for number in others])
        async with process(settings):
            await until(lambda: bool(slow.calls))
            began_ms = wall_clock_ms()
            await until(lambda: len(healthy.calls) == len(others))
            took_s = (wall_clock_ms() - began_ms) / 1000
            assert len(slow.calls) < SLOW_CALLS
    assert took_s < SLOW_TAKES_S / 2


async def test_a_stop_leaves_what_waits_for_a_call_to_the_next_owner(settings: CallbackSettings) -> None:
    """Hundreds wait for a slow destination: what is under way is ended, nothing else is begun or lost."""
    async with Receiver(secrets=[SECRET]) as slow:
        url = slow.url(delay_ms=CALL_MS)
        await append(settings, Topic.RESULTS, [outcome(number, url) for number in range(100)])
        async with process(settings) as first:
            await until(lambda: bool(slow.calls))
            first.terminate()
            called = len(slow.calls)
            assert await first.wait() == 0
        assert len(slow.calls) <= called + 2 * 8, "no new call, but those that were on their way"
        async with process(settings):
            await until(lambda: len({call.webhook_id for call in slow.calls}) == 100)
        assert len(slow.calls) == 100
