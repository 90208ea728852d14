"""What fetched records mean; long submissions are decoded beside the event loop."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final, NoReturn

from shared.db.interpret import REQUEST_MODES, Interpretation, interpret, interpret_submission
from shared.domain.types import Mode
from shared.events.decoder import DecoderExhaustedError, SubmissionDecoder
from shared.events.decoder_process import DecoderStartError
from shared.events.strict_json import INLINE_BYTES
from shared.events.submission import Submission
from shared.events.submit_keys import SubmitKeys
from shared.kafka.records import Record
from shared.kafka.topics import Topic

__all__ = ["Interpreter"]

STRETCH_BYTES: Final = 32 * 1024
"""Records of so many bytes are interpreted at a stretch: less than 20 ms, whatever they hold."""

RECORD_BYTES: Final = 256
"""What a record costs besides, in bytes that cost as much."""


class Interpreter:
    """Interprets one record after the other.

    Args:
        keys: by which ingest's records are known.
    """

    def __init__(self, keys: SubmitKeys) -> None:
        self._keys = keys
        self._decoder = SubmissionDecoder(keys, with_digest=True)
        self._stretch_bytes = 0

    async def interpret(self, topic: Topic, record: Record) -> Interpretation:
        """What `record` means; others have the event loop after each stretch.

        Raises:
            DecoderStartError: it is long, and there is no room for a process that decodes it.
            DecoderExhaustedError: no process has survived it, or there was no memory, for some seconds.
            MemoryError: there is none for a short one.
        """
        size = len(record.value or b"") + RECORD_BYTES
        if self._stretch_bytes + size > STRETCH_BYTES:
            self._stretch_bytes = 0
            await asyncio.sleep(0)
        self._stretch_bytes += size
        mode = REQUEST_MODES.get(topic)
        if mode is None or size <= INLINE_BYTES:
            return interpret(topic, record, self._keys)
        return interpret_submission(topic, record, await self._decode(record, mode))

    async def close(self) -> None:
        """End the decoder process."""
        await self._decoder.close()

    async def _decode(self, record: Record, mode: Mode) -> Callable[[], Submission]:
        """What returns the submission, or raises what decoding it has raised."""
        try:
            submission = await self._decoder.decode(record, mode)
        except (DecoderStartError, DecoderExhaustedError):
            raise
        except Exception as error:  # noqa: BLE001 - raised again where it is judged
            return partial(_raise, error)
        return lambda: submission


def _raise(error: Exception) -> NoReturn:
    raise error
