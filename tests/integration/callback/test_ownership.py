"""What waited for its turn while the process was stopped is not called before it is known to be ours."""

import asyncio
from dataclasses import replace

from pydantic import SecretStr

from services.callback.dispatcher import HttpDispatcher
from services.callback.http_settings import CallbackHttpSettings
from shared.domain.callbacks import SuccessfulAttempt
from shared.kafka.producer import SupervisedProducer
from shared.settings import KafkaSettings
from shared.testing.receiver import Receiver
from tests.integration.callback.support import SECRET, until
from tests.integration.callback_http.support import dispatch
from tests.unit.callback.support import delivery


class Lease:
    """A lease that can lapse."""

    def __init__(self) -> None:
        self.proven = asyncio.Event()
        self.proven.set()
        self.asked = 0

    def is_valid(self) -> bool:
        return self.proven.is_set()

    async def renew(self) -> None:
        self.asked += 1
        await self.proven.wait()


async def test_a_delivery_in_the_queue_is_not_made_until_the_lease_is_renewed() -> None:
    settings = CallbackHttpSettings(
        webhook_secrets=SecretStr(SECRET),
        callback_allow="127.0.0.0/8",
        callback_concurrency=1,
        callback_queue_wait_ms=20_000,
    )
    lease = Lease()
    dispatcher = HttpDispatcher(settings, SupervisedProducer(KafkaSettings()), lease=lease)
    await dispatcher.open_connections()
    try:
        async with Receiver(secrets=[SECRET]) as receiver:
            first, second = (
                replace(delivery(number), url=receiver.url("/hook", delay_ms=300)) for number in (1, 2)
            )
            under_way = asyncio.create_task(dispatch(dispatcher, first))
            await until(lambda: len(receiver.calls) == 1)
            queued = asyncio.create_task(dispatch(dispatcher, second))
            await until(lambda: lease.asked == 2)
            lease.proven.clear()
            assert isinstance(await under_way, SuccessfulAttempt)
            await until(lambda: lease.asked == 3)
            assert len(receiver.calls) == 1
            lease.proven.set()
            assert isinstance(await queued, SuccessfulAttempt)
            assert len(receiver.calls) == 2
    finally:
        await dispatcher.stop()
