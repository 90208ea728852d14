"""What is disabled, on a real log: every instance knows, at its start and later; people see and change it."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from services.callback.dispatcher import HttpDispatcher
from services.callback.ports import Disabled
from services.callback.settings import CallbackSettings
from shared.destinations.changes import append_change, disable, enable
from shared.destinations.directory import DestinationDirectory, read_disabled
from shared.domain.callbacks import SuccessfulAttempt
from shared.domain.destinations import DestinationDisabled, identify
from shared.kafka.producer import SupervisedProducer
from shared.kafka.records import OutgoingRecord
from shared.kafka.topics import Topic
from shared.testing.receiver import Receiver
from tests.integration.callback_http.support import delivery, dispatch
from tests.support.waiting import until

pytestmark = pytest.mark.kafka

URL = "https://receiver.example/hook?token=hidden"


@asynccontextmanager
async def open_producer(settings: CallbackSettings) -> AsyncIterator[SupervisedProducer]:
    producer = SupervisedProducer(settings)
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


@asynccontextmanager
async def running(settings: CallbackSettings, producer: SupervisedProducer) -> AsyncIterator[HttpDispatcher]:
    dispatcher = HttpDispatcher(settings, producer)
    await dispatcher.start()
    following = asyncio.create_task(dispatcher.run())
    try:
        yield dispatcher
    finally:
        following.cancel()
        await asyncio.wait([following])
        await dispatcher.stop()


def disabled_event(url: str, at_ms: int = 1, submitter: str = "rest") -> DestinationDisabled:
    destination, shown = identify(submitter, url)
    return disable(destination, submitter=submitter, url=shown, reason="gone", by="ops", now_ms=at_ms)


async def command(settings: CallbackSettings, *arguments: str) -> tuple[int, str, str]:
    """Exit code and what was said of `consuma destinations …`."""
    environment = {
        **os.environ,
        "CONSUMA_KAFKA": settings.kafka,
        "CONSUMA_TOPIC_PREFIX": settings.topic_prefix,
        "COLUMNS": "250",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from infra.cli.main import main; main()",
        "destinations",
        *arguments,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, complained = await process.communicate()
    return process.returncode or 0, said.decode(), complained.decode()


async def test_what_one_instance_is_told_all_know_now_and_after_a_restart(settings: CallbackSettings) -> None:
    async with (
        Receiver() as receiver,
        open_producer(settings) as producer,
        running(settings, producer) as told,
        running(settings, producer) as other,
    ):
        gone = delivery(receiver.url(status=410))
        await dispatch(told, gone)
        assert isinstance(await dispatch(told, gone), Disabled)
        async with asyncio.timeout(20):
            while not isinstance(await dispatch(other, gone), Disabled):  # noqa: ASYNC110 - sets no event
                await asyncio.sleep(0.02)
        async with running(settings, producer) as later:
            assert later.ready
            assert isinstance(await dispatch(later, gone), Disabled), "known before the first delivery"


async def test_the_last_record_of_a_destination_counts(settings: CallbackSettings) -> None:
    one, other = disabled_event(URL, 1), disabled_event("http://h/", 2)
    async with open_producer(settings) as producer:
        await append_change(producer, one, source="/t")
        await append_change(producer, other, source="/t")
        await append_change(producer, enable(one, reason="", by="ops", now_ms=3), source="/t")
        assert await read_disabled(settings) == [other]
        tombstone = OutgoingRecord(
            topic=Topic.DESTINATIONS, key=other.destination_id.encode(), value=None, partition=0
        )
        await producer.send(tombstone)
        assert await read_disabled(settings) == []


async def test_a_record_that_cannot_be_read_hides_no_other(settings: CallbackSettings) -> None:
    event = disabled_event(URL)
    async with open_producer(settings) as producer:
        for value in (b"?", b"{}", None):
            await producer.send(OutgoingRecord(topic=Topic.DESTINATIONS, key=b"x", value=value, partition=0))
        await append_change(producer, event, source="/t")
    assert await read_disabled(settings) == [event]


async def test_a_follower_hears_of_changes(settings: CallbackSettings) -> None:
    directory = DestinationDirectory(settings)
    await directory.load()
    following = asyncio.create_task(directory.run())
    event = disabled_event(URL)
    async with open_producer(settings) as producer:
        await append_change(producer, event, source="/t")
        await until(lambda: directory.disabled(event.destination_id) == event)
        await append_change(producer, enable(event, reason="", by="ops", now_ms=2), source="/t")
        await until(lambda: directory.all() == [])
    following.cancel()
    await asyncio.wait([following])


async def test_people_see_and_change_it(settings: CallbackSettings) -> None:
    code, said, complained = await command(settings, "list")
    assert (code, said, complained) == (0, "", "no destination is disabled\n")
    code, said, _ = await command(settings, "disable", URL, "--reason", "moved", "--submitter", "shop")
    assert code == 0
    [state] = await read_disabled(settings)
    assert (state.submitter, state.reason, state.url) == ("shop", "moved", "https://receiver.example/hook?…")
    code, table, _ = await command(settings, "list")
    assert (code, "shop" in table, "moved" in table, "hidden" in table) == (0, True, True, False)
    code, text, _ = await command(settings, "list", "-o", "json")
    [listed] = json.loads(text)
    assert (listed["destination_id"], listed["state"]) == (state.destination_id, "disabled")
    code, text, _ = await command(settings, "show", URL)
    assert (code, text) == (0, "enabled: callbacks are made\n"), "for another submitter"
    code, text, _ = await command(settings, "show", state.destination_id[:8], "-o", "json")
    assert (code, json.loads(text)[0]["reason"]) == (0, "moved")
    code, said, _ = await command(settings, "enable", URL, "--submitter", "shop", "--reason", "back")
    assert (code, said.startswith("enabled")) == (0, True)
    assert await read_disabled(settings) == []
    code, _, complained = await command(settings, "enable", URL, "--submitter", "shop")
    assert (code, complained) == (0, "nothing to do: it is not disabled\n")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("disable", "ftp://h/", "--reason", "x"), "must start with http"),
        (("disable", "http://u:p@h/", "--reason", "x"), "user name or password"),
        (("show", "abc"), "at least 6 characters"),
    ],
)
async def test_a_mistake_is_told_with_exit_code_2(
    settings: CallbackSettings, arguments: tuple[str, ...], complaint: str
) -> None:
    code, said, complained = await command(settings, *arguments)
    assert (code, said, complaint in complained) == (2, "", True), complained


async def test_a_log_that_is_away_is_told_with_exit_code_1(settings: CallbackSettings) -> None:
    code, said, complained = await command(settings.model_copy(update={"kafka": "127.0.0.1:1"}), "list")
    assert (code, said) == (1, "")
    assert "CONSUMA_KAFKA" in complained


async def test_enabled_again_callbacks_are_made(settings: CallbackSettings) -> None:
    async with (
        Receiver() as receiver,
        open_producer(settings) as producer,
        running(settings, producer) as dispatcher,
    ):
        event = disabled_event(receiver.url())
        await append_change(producer, event, source="/t")
        async with asyncio.timeout(20):
            while not isinstance(await dispatch(dispatcher, delivery(receiver.url())), Disabled):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        await append_change(producer, enable(event, reason="", by="ops", now_ms=2), source="/t")
        async with asyncio.timeout(20):
            while not isinstance(await dispatch(dispatcher, delivery(receiver.url())), SuccessfulAttempt):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
