"""From a record of a request topic to a durable outcome.

Order: the outcome is acknowledged, then the reply is sent, then the record is done. A record that is no
request goes to the dead letters, and the partition goes on.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import structlog

from services.compute import metrics
from services.compute.cancellations import Cancellations
from services.compute.journal import Journal, now_ms
from services.compute.pace import Pace
from services.compute.recent_outcomes import RecentOutcomes
from services.compute.replies import Replies
from services.compute.run import Run, RunContext
from services.compute.settings import ComputeSettings
from shared.domain.execution import fail
from shared.domain.requests import Failure, FailureCode, RequestFailed
from shared.domain.types import Mode, RequestId
from shared.events.codec import EncodedEvent
from shared.events.dead_letters import dead_letter_of
from shared.events.decoder import SubmissionDecoder
from shared.events.decoder_process import DecoderStartError
from shared.events.request_data import FieldProblem, SubmissionError
from shared.events.submission import Submission
from shared.kafka.consumer import LeaveRecord
from shared.kafka.records import Partition, Record
from shared.kafka.topics import Topic, topic_name
from shared.operations.registry import Registry, UnknownOperationError

__all__ = ["Compute"]

log = structlog.get_logger()

REFUSALS: Final = frozenset({FailureCode.UNKNOWN_OPERATION, FailureCode.INVALID_INPUT})
"""Failures that are faults of the record: it is set aside as well, since a person may want to mend it."""

DECODER_FAULT: Final = "decoder_fault"


class Compute:
    """Handles the records of `requests` and `requests.sync`.

    Args:
        settings: topics and limits.
        registry: the operations.
        context: what requests run with.
        replies: answers to who waits.
    """

    def __init__(
        self, settings: ComputeSettings, registry: Registry, context: RunContext, replies: Replies
    ) -> None:
        self.cancellations = Cancellations(settings, self._on_cancelled)
        self._registry = registry
        self._context = context
        self._journal: Journal = context.journal
        self._replies = replies
        self._recent = RecentOutcomes(settings.recent_requests, settings.recent_bytes)
        self._runs: dict[RequestId, Run] = {}
        self._pace = Pace()
        keys = settings.keys()
        self._decoders = {mode: SubmissionDecoder(keys, with_digest=False) for mode in Mode}
        self._leaving = False
        self._modes = {
            topic_name(settings, Topic.REQUESTS_SYNC): Mode.SYNC,
            topic_name(settings, Topic.REQUESTS): Mode.ASYNC,
        }

    async def on_assigned(self, partitions: frozenset[Partition]) -> None:
        """Hear first which requests were cancelled while nobody computed them."""
        await self.cancellations.until_caught_up()

    async def on_revoked(self, partitions: frozenset[Partition]) -> None:
        """Nothing is kept by partition."""

    async def handle(self, record: Record) -> None:
        """Bring `record` to its end.

        Raises:
            LeaveRecord: the process stops, and the request has not begun to run.
            SlotServerError: the slots are gone; the process is about to end.
            DecoderStartError: a long record cannot be decoded for lack of a process.
        """
        await self._pace.step(len(record.value or b""))
        try:
            submission = await self._decode(record)
        except SubmissionError as error:
            await self._set_aside(record, error.reason, error.message, error.fields)
            return
        await self._conclude(submission, partial(self._compute, record, submission))

    async def on_poison(self, record: Record, attempts: int) -> None:
        """End a record that has taken the process down in each of `attempts` runs alone."""
        message = f"the process that computed it died in each of {attempts} attempts that it was given alone"
        try:
            submission = await self._decode(record)
        except SubmissionError:
            await self._set_aside(record, FailureCode.POISON, message, attempts=attempts)
            return
        failure = Failure(code=FailureCode.POISON, message=message)
        outcome = fail(submission.request, failure, attempts=attempts, now_ms=now_ms())
        await self._conclude(submission, partial(self._reject, record, submission, outcome))

    def leave_queued(self) -> None:
        """Start nothing more: what waits for a slot is left to the next owner, what runs goes on."""
        self._leaving = True
        for run in self._runs.values():
            run.leave()

    async def close(self) -> None:
        """End the decoder processes."""
        for decoder in self._decoders.values():
            await decoder.close()

    async def _decode(self, record: Record) -> Submission:
        """The request in `record`.

        Raises:
            SubmissionError: there is none. An unforeseen fault of the decoder counts as one: it would not
                heal, and its record must not hold the partition up.
            DecoderStartError: it cannot be decoded for lack of a process, for now.
        """
        mode = self._modes[record.topic]
        try:
            return await self._decoders[mode].decode(record, mode)
        except (SubmissionError, DecoderStartError):
            raise
        except Exception as error:
            log.exception("request.decoder_fault", origin=record.position)
            raise SubmissionError(DECODER_FAULT, f"cannot be decoded: {error!r}"[:1_000]) from error

    async def _conclude(self, submission: Submission, produce: Callable[[], Awaitable[EncodedEvent]]) -> None:
        outcome = await self._recent.of(submission.request.request_id, produce)
        self._replies.send(submission.reply_to, outcome)

    async def _compute(self, record: Record, submission: Submission) -> EncodedEvent:
        request = submission.request
        try:
            limits = self._registry.get(request.operation).limits
        except UnknownOperationError as error:
            failure = Failure(code=FailureCode.UNKNOWN_OPERATION, message=str(error))
            outcome = fail(request, failure, attempts=0, now_ms=now_ms())
            return await self._reject(record, submission, outcome, (("operation", str(error)),))
        return await self._run(record, submission, limits.timeout_ms(request.timeout_ms))

    async def _run(self, record: Record, submission: Submission, timeout_ms: int) -> EncodedEvent:
        if self._leaving:
            raise LeaveRecord
        request = submission.request
        run = self._runs[request.request_id] = Run(
            self._context,
            request,
            timeout_ms=timeout_ms,
            traceparent=submission.traceparent,
            cancelled=request.request_id in self.cancellations,
        )
        try:
            outcome = await run.outcome()
        finally:
            del self._runs[request.request_id]
        if isinstance(outcome, RequestFailed) and outcome.error.code in REFUSALS:
            return await self._reject(record, submission, outcome, run.invalid_fields)
        return await self._journal.outcome(request, outcome, submission.traceparent)

    async def _reject(
        self,
        record: Record,
        submission: Submission,
        outcome: RequestFailed,
        fields: tuple[FieldProblem, ...] = (),
    ) -> EncodedEvent:
        """Set the record aside and write the failure: whoever waits for the outcome hears of it, too."""
        await self._set_aside(
            record,
            outcome.error.code,
            outcome.error.message,
            fields,
            request_id=outcome.request_id,
            attempts=outcome.attempts,
        )
        return await self._journal.outcome(submission.request, outcome, submission.traceparent)

    async def _set_aside(
        self,
        record: Record,
        reason: str,
        message: str,
        fields: tuple[FieldProblem, ...] = (),
        *,
        request_id: RequestId | None = None,
        attempts: int = 0,
    ) -> None:
        letter = dead_letter_of(
            record,
            reason=reason,
            message=message,
            now_ms=now_ms(),
            fields=fields,
            request_id=request_id,
            attempts=attempts,
        )
        await self._journal.dead_letter(letter)

    def _on_cancelled(self, request_id: RequestId) -> None:
        run = self._runs.get(request_id)
        met = run.cancel() if run is not None else "nothing"
        metrics.CANCELLATIONS.labels(met).inc()
