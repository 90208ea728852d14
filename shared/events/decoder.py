"""Decoding records of the request topics beside an event loop: small ones at once, long ones elsewhere.

`python -m shared.events.decoder` is the process that decodes the long ones.
"""

import asyncio
from dataclasses import replace
from typing import Final

import msgspec
import structlog

from shared.domain.types import JsonBytes, Mode
from shared.events.decoder_answers import Excerpt, Fault, Refused
from shared.events.decoder_process import DecoderLostError, DecoderProcess, serve
from shared.events.request_data import SubmissionError
from shared.events.strict_json import INLINE_BYTES
from shared.events.submission import Opened, Submission, decode_submission, open_record, read_submission
from shared.events.submit_keys import SubmitKeys
from shared.kafka.records import Record

__all__ = ["DecoderExhaustedError", "DecoderFaultError", "SubmissionDecoder"]

log = structlog.get_logger()

MODULE: Final = "shared.events.decoder"
ANSWER_WITHIN_S: Final = 30.0
"""A hundred times what the worst record takes: only a process that is stopped needs longer."""

PAUSES_S: Final = (0.0, 0.5, 2.0, 5.0)
"""Before each further attempt at a record whose process died, or for which there was no memory."""

MOST_WAITING: Final = 100_000
"""More than the windows of all partitions hold; they are the limit."""

_NOTHING: Final = JsonBytes(memoryview(b""))


class _Question(msgspec.Struct, frozen=True, kw_only=True):
    """A record but for its value, and what its headers say."""

    record: Record
    mode: Mode
    opened: Opened
    with_digest: bool


class _Decoded(msgspec.Struct, frozen=True, kw_only=True, tag="decoded"):
    """A submission but for its input, which is found in the record's value."""

    submission: Submission
    input: Excerpt


_Answer = _Decoded | Refused | Fault


class DecoderFaultError(Exception):
    """The record cannot be decoded, for a reason that nobody has foreseen."""


class DecoderExhaustedError(DecoderFaultError):
    """Each attempt has ended with the process, or for lack of memory: the fault may be the machine's."""


class SubmissionDecoder:
    """Decodes as `decode_submission` does, and never holds the event loop up for more than some milliseconds.

    Args:
        keys: by which ingest's records are known.
        with_digest: whether digests are computed.
        process: for long records.
    """

    def __init__(self, keys: SubmitKeys, *, with_digest: bool, process: DecoderProcess | None = None) -> None:
        self._keys = keys
        self._with_digest = with_digest
        self._process = process or DecoderProcess(
            MODULE, answer_within_s=ANSWER_WITHIN_S, most_waiting=MOST_WAITING
        )

    @property
    def pid(self) -> int | None:
        """Of the decoder process, while there is one."""
        return self._process.pid

    async def decode(self, record: Record, mode: Mode) -> Submission:
        """The request in `record`.

        Raises:
            SubmissionError: there is none.
            DecoderStartError: it is long, and there is no room for a process now.
            DecoderExhaustedError: no process has survived it, or there was no memory, in some seconds.
            DecoderFaultError: it cannot be decoded at all.
        """
        for pause_s in (*PAUSES_S, None):
            try:
                return await self._decode(record, mode)
            except (DecoderLostError, MemoryError) as error:
                if pause_s is None:
                    raise DecoderExhaustedError(f"{error!r}, {len(PAUSES_S) + 1} times") from error
                log.warning("decoder.retried", origin=record.position, error=repr(error))
            await asyncio.sleep(pause_s)
        raise AssertionError("the last attempt returns or raises")

    async def close(self) -> None:
        """End the process."""
        await self._process.close()

    async def _decode(self, record: Record, mode: Mode) -> Submission:
        if record.value is None or len(record.value) <= INLINE_BYTES:
            return decode_submission(record, mode, self._keys, with_digest=self._with_digest)
        opened = open_record(record, mode, self._keys)
        question = _Question(
            record=replace(record, value=None), mode=mode, opened=opened, with_digest=self._with_digest
        )
        answer = await self._process.ask(_encoder.encode(question), record.value)
        return _submission(_answers.decode(answer), record.value)


def _submission(answer: _Answer, value: bytes) -> Submission:
    match answer:
        case Refused():
            raise SubmissionError(answer.reason, answer.message, answer.fields)
        case Fault():
            raise DecoderFaultError(answer.error)
        case _Decoded():
            request = replace(answer.submission.request, input=JsonBytes(answer.input.view(value)))
            return replace(answer.submission, request=request)


def _answer(about: bytes, value: bytes) -> bytes:
    """What the decoder process answers."""
    try:
        question = _questions.decode(about)
        record = replace(question.record, value=value)
        found = read_submission(record, question.mode, question.opened, with_digest=question.with_digest)
    except SubmissionError as error:
        refused = Refused(reason=error.reason, message=error.message, fields=error.fields)
        return _encoder.encode(refused)
    except MemoryError:
        raise  # the process ends, and another one begins with what memory there is
    except Exception as error:  # noqa: BLE001 - it is raised again where it was asked
        return _encoder.encode(Fault.of(error))
    return _encoder.encode(_decoded(found, value))


def _decoded(found: Submission, value: bytes) -> _Decoded:
    without = replace(found, request=replace(found.request, input=_NOTHING))
    return _Decoded(submission=without, input=Excerpt.of(found.request.input, value))


_encoder: Final = msgspec.msgpack.Encoder()
_questions: Final = msgspec.msgpack.Decoder(_Question)
_answers: Final[msgspec.msgpack.Decoder[_Answer]] = msgspec.msgpack.Decoder(_Answer)


if __name__ == "__main__":
    serve(_answer)
