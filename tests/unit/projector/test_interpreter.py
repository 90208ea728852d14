"""What cannot be decoded for now ends the session, and is no anomaly."""

import pytest

from services.projector.handlers import SESSION_ENDS
from services.projector.interpreter import Interpreter
from shared.db.interpret import Anomaly
from shared.domain.types import Mode
from shared.events.decoder import DecoderExhaustedError, DecoderFaultError, SubmissionDecoder
from shared.events.decoder_process import DecoderStartError
from shared.events.strict_json import INLINE_BYTES
from shared.events.submission import Submission
from shared.events.submit_keys import NO_KEYS
from shared.kafka.records import Record
from shared.kafka.topics import Topic

LONG = Record("t.requests", 0, 7, 1_000, None, b" " * INLINE_BYTES)


def fail_with(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    async def decode(decoder: SubmissionDecoder, record: Record, mode: Mode) -> Submission:
        raise error

    monkeypatch.setattr(SubmissionDecoder, "decode", decode)


@pytest.mark.parametrize("error", [DecoderStartError("no room"), DecoderExhaustedError("died, 5 times")])
async def test_what_another_attempt_may_mend_ends_the_session(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_with(error, monkeypatch)
    with pytest.raises(SESSION_ENDS):
        await Interpreter(NO_KEYS).interpret(Topic.REQUESTS, LONG)


async def test_an_unforeseen_fault_of_the_decoder_is_an_anomaly(monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(DecoderFaultError("unforeseen"), monkeypatch)
    assert isinstance(await Interpreter(NO_KEYS).interpret(Topic.REQUESTS, LONG), Anomaly)
