"""Who waits for an answer gets their own, and nobody else's."""

import asyncio
from types import SimpleNamespace
from typing import cast

import pytest

from services.ingest.problems import LogUnavailable, Overloaded
from services.ingest.replies import PendingReply, Replies
from services.ingest.settings import IngestSettings
from shared.domain.requests import RequestStarted, RequestSucceeded
from shared.domain.types import JsonText, Mode, RequestFacts, RequestId
from shared.events.codec import Event, Origin, encode
from shared.kafka.reader import Follower
from shared.kafka.records import Record
from tests.support.waiting import until

FACTS = RequestFacts(
    request_id=RequestId("5f0f3c0e-6c0a-4d3b-9d6e-2f6a1b7c8d90"),
    mode=Mode.SYNC,
    source="rest",
    operation="primes",
    accepted_at_ms=1,
)
OUTCOME = RequestSucceeded(**FACTS, attempts=1, finished_at_ms=2, result=JsonText("7"))
STARTED = RequestStarted(**FACTS, attempt=1, started_at_ms=2, worker="w")


@pytest.fixture
def replies(monkeypatch: pytest.MonkeyPatch) -> Replies:
    """Replies that believe to hear partition 3."""
    made = Replies(IngestSettings().model_copy(update={"max_waiting": 2}))
    monkeypatch.setattr(made, "_partition", 3)
    return made


def reply(pending: PendingReply, event: Event = OUTCOME, value: bytes | None = None) -> Record:
    encoded = encode(event, Origin(event_id="e", source="/test", now_ms=1))
    headers = (*encoded.headers, ("correlation-id", pending.reply_to.correlation_id))
    return Record("replies", 3, 0, 1, encoded.key, value or encoded.value, headers)


async def test_a_reply_ends_its_own_wait(replies: Replies) -> None:
    with replies.expect() as one, replies.expect() as other:
        assert one.reply_to.partition == 3
        assert one.reply_to.correlation_id != other.reply_to.correlation_id
        replies.take(reply(other))
        assert await other.outcome(5.0) == OUTCOME
        assert await one.outcome(0.01) is None


async def test_a_reply_may_come_before_anybody_awaits_it(replies: Replies) -> None:
    with replies.expect() as pending:
        replies.take(reply(pending))
        replies.take(reply(pending))
        assert await pending.outcome(0.0) == OUTCOME


async def test_what_is_no_outcome_ends_no_wait(replies: Replies) -> None:
    with replies.expect() as pending:
        replies.take(reply(pending, STARTED))
        replies.take(reply(pending, value=b"{"))
        replies.take(Record("replies", 3, 0, 1, None, None, ()))
        assert await pending.outcome(0.01) is None
        replies.take(reply(pending))
        assert await pending.outcome(5.0) == OUTCOME


async def test_a_late_reply_is_ignored(replies: Replies) -> None:
    with replies.expect() as pending:
        pass
    replies.take(reply(pending))


async def test_another_instances_correlation_ids_are_not_its_own(replies: Replies) -> None:
    other = Replies(IngestSettings())
    with replies.expect() as pending:
        other.take(reply(pending))
        assert await pending.outcome(0.01) is None


async def test_no_more_than_so_many_wait(replies: Replies) -> None:
    with replies.expect(), replies.expect(), pytest.raises(Overloaded), replies.expect():
        raise AssertionError("unreachable")
    with replies.expect():
        pass


async def test_nobody_waits_for_what_cannot_be_heard() -> None:
    deaf = Replies(IngestSettings())
    assert not deaf.ready
    with pytest.raises(LogUnavailable), deaf.expect():
        raise AssertionError("unreachable")


async def test_whoever_cannot_hear_for_a_moment_is_not_ready_and_keeps_its_callers(replies: Replies) -> None:
    """A client that has died is replaced where it was: what is answered meanwhile is heard then."""
    for live in (True, False):
        replies._follower = cast("Follower", SimpleNamespace(live=live))
        assert replies.ready is live
        with replies.expect() as pending:
            replies.take(reply(pending))
            assert await pending.outcome(0.0) == OUTCOME


async def test_a_stopping_process_lets_everybody_go(replies: Replies) -> None:
    with replies.expect() as pending:
        waiting = asyncio.create_task(pending.outcome(30.0))
        await asyncio.sleep(0)
        replies.release()
        await until(waiting.done)
        assert waiting.result() is None
        with replies.expect() as late:
            assert await late.outcome(30.0) is None
