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
from services.compute.execution import Execution, ExecutionContext
from services.compute.journal import now_ms
from services.compute.outcome_cache import OutcomeCache
from services.compute.replies import Replies
from services.compute.settings import ComputeSettings
from services.compute.start_throttle import StartThrottle
from shared.domain.execution import fail
from shared.domain.requests import Failure, FailureCode, RequestFailed
from shared.domain.types import Mode, RequestId
from shared.events.codec import EncodedEvent
from shared.events.dead_letters import dead_letter_of
from shared.events.decoder import SubmissionDecoder
from shared.events.decoder_process import DecoderStartError
from shared.events.request_data import FieldProblem, SubmissionError
from shared.events.strict_json import INLINE_BYTES
from shared.events.submission import Submission
from shared.kafka.consumer import ReleaseRecord
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
        context: the parts that executions share.
        replies: answers to submitters that wait.
    """

    def __init__(
        self, settings: ComputeSettings, registry: Registry, context: ExecutionContext, replies: Replies
    ) -> None:
        self.cancellations = Cancellations(settings, self._on_cancelled)
        self._registry = registry
        self._context = context
        self._journal = context.journal
        self._replies = replies
        self._outcomes = OutcomeCache(settings.recent_requests, settings.recent_bytes)
        self._executions: dict[RequestId, Execution] = {}
        self._throttle = StartThrottle()
        keys = settings.keys()
        self._decoders = {mode: SubmissionDecoder(keys, with_digest=False) for mode in Mode}
        self._releasing = False
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
            ReleaseRecord: the process stops, and the request has not begun to run.
            SlotServerError: the slots are gone; the process is about to end.
            DecoderStartError: a long record cannot be decoded for lack of a process.
        """
        await self._throttle.step(len(record.value or b""))
        submission = await self._decode(record)
        if isinstance(submission, SubmissionError):
            await self._set_aside(record, submission.reason, submission.message, submission.fields)
        else:
            await self._conclude(submission, partial(self._compute, record, submission))

    async def on_poison(self, record: Record, attempts: int) -> None:
        """End a record of which `attempts` runs have ended with the process.

        Two runs beyond the limit have ended while the record was decoded for its outcome: it is not decoded
        again. One may have been counted although the decoding went well.
        """
        message = f"the process that computed it died in each of its {attempts} attempts"
        decodable = attempts <= self._context.quarantine.limit + 1
        submission = await self._decode(record) if decodable else None
        if not isinstance(submission, Submission):
            await self._set_aside(record, FailureCode.POISON, message, attempts=attempts)
            return
        failure = Failure(code=FailureCode.POISON, message=message)
        outcome = fail(submission.request, failure, attempts=attempts, now_ms=now_ms())
        await self._conclude(submission, partial(self._reject, record, submission, outcome))

    def release_queued(self) -> None:
        """Start nothing more: requests that wait for a slot are left to the next owner, others go on."""
        self._releasing = True
        for execution in self._executions.values():
            execution.release()

    async def close(self) -> None:
        """End the decoder processes."""
        for decoder in self._decoders.values():
            await decoder.close()

    async def _decode(self, record: Record) -> Submission | SubmissionError:
        """The request in `record`, or why there is none.

        A long record is decoded by another process, whose death does not end this one: it is not held.

        Raises:
            DecoderStartError: it cannot be decoded for lack of a process, for now.
        """
        if len(record.value or b"") > INLINE_BYTES:
            return await self._decode_anywhere(record)
        async with self._context.quarantine.hold(record):
            return await self._decode_anywhere(record)

    async def _decode_anywhere(self, record: Record) -> Submission | SubmissionError:
        """An unforeseen fault of the decoder counts as the record's.

        It would not heal, and its record must not hold the partition up.
        """
        mode = self._modes[record.topic]
        try:
            return await self._decoders[mode].decode(record, mode)
        except SubmissionError as error:
            return error
        except DecoderStartError:
            raise
        except Exception as error:
            log.exception("request.decoder_fault", origin=record.position)
            return SubmissionError(DECODER_FAULT, f"cannot be decoded: {error!r}"[:1_000])

    async def _conclude(self, submission: Submission, produce: Callable[[], Awaitable[EncodedEvent]]) -> None:
        """Answer with the outcome that is known, or else with that of `produce`."""
        request_id = submission.request.request_id
        outcome = await self._outcomes.known_or_claimed(request_id)
        if outcome is None:
            try:
                outcome = await produce()
            finally:
                self._outcomes.settle(request_id, outcome)
        self._replies.send(submission.reply_to, outcome)

    async def _compute(self, record: Record, submission: Submission) -> EncodedEvent:
        request = submission.request
        try:
            limits = self._registry.get(request.operation).limits
        except UnknownOperationError as error:
            failure = Failure(code=FailureCode.UNKNOWN_OPERATION, message=str(error))
            refused = fail(request, failure, attempts=0, now_ms=now_ms())
            return await self._reject(record, submission, refused, (("operation", str(error)),))
        execution = self._execution(record, submission, limits.timeout_ms(request.timeout_ms))
        try:
            outcome = await execution.outcome()
        finally:
            del self._executions[request.request_id]
        if isinstance(outcome, RequestFailed) and outcome.error.code in REFUSALS:
            return await self._reject(record, submission, outcome, execution.invalid_fields)
        return await self._journal.outcome(request, outcome, submission.traceparent)

    def _execution(self, record: Record, submission: Submission, timeout_ms: int) -> Execution:
        """An execution that hears of a cancellation, and of the end of the process.

        Raises:
            ReleaseRecord: the process is ending.
        """
        if self._releasing:
            raise ReleaseRecord
        request_id = submission.request.request_id
        execution = self._executions[request_id] = Execution(
            self._context,
            record,
            submission,
            timeout_ms=timeout_ms,
            cancelled=request_id in self.cancellations,
        )
        return execution

    async def _reject(
        self,
        record: Record,
        submission: Submission,
        outcome: RequestFailed,
        fields: tuple[FieldProblem, ...] = (),
    ) -> EncodedEvent:
        """Set the record aside and write the failure: a caller who waits for the outcome hears of it, too."""
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
        execution = self._executions.get(request_id)
        met = execution.cancel() if execution is not None else "nothing"
        metrics.CANCELLATIONS.labels(met).inc()
