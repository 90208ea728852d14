"""Checking bodies in a process of its own: long JSON is costly, and an operation's input model can hang.

`python -m services.ingest.body_decoder` is that process.
"""

import asyncio
from contextlib import suppress
from typing import Final

import msgspec
import structlog

from services.ingest.checking import BodyCheck, Wanted
from services.ingest.problems import (
    InternalError,
    InvalidInput,
    InvalidRequest,
    MalformedJson,
    Overloaded,
    Problem,
    UnknownOperation,
)
from shared.domain.types import Mode
from shared.events.decoder_answers import Excerpt, Fault, Refused
from shared.events.decoder_process import (
    DecoderBusyError,
    DecoderLostError,
    DecoderProcess,
    DecoderStartError,
    serve,
)
from shared.events.request_data import RequestData
from shared.operations.registry import load_registry

__all__ = ["BodyDecoder", "answer_with"]

log = structlog.get_logger()

MODULE: Final = "services.ingest.body_decoder"
ANSWER_WITHIN_S: Final = 5.0
"""Twenty times what the costliest JSON takes: beyond it, an operation's input model waits for something."""

CPU_LIMIT_S: Final = 1.5
"""Five times what the costliest JSON takes of the processor: beyond it, an input model spins. Those that wait
behind it are checked by the next process."""

WAIT_S: Final = 20.0
"""Longest time that a caller waits for the check, those before it included."""

MOST_WAITING: Final = 64
"""A megabyte takes a tenth of a second at worst, so that the last body in the queue waits for seconds."""

_KINDS: Final[dict[str, type[Problem]]] = {
    kind.code: kind for kind in (MalformedJson, InvalidRequest, UnknownOperation, InvalidInput)
}
_NOTHING: Final = msgspec.Raw(b"null")


class _Accepted(msgspec.Struct, frozen=True, kw_only=True, tag="accepted"):
    """A submission but for its input, which is found in the body."""

    data: RequestData
    digest: str
    input: Excerpt


_Answer = _Accepted | Refused | Fault


class BodyDecoder:
    """Checks as `BodyCheck` does, beside the event loop."""

    def __init__(self, module: str = MODULE, answer_within_s: float = ANSWER_WITHIN_S) -> None:
        self._process = DecoderProcess(module, answer_within_s=answer_within_s, most_waiting=MOST_WAITING)

    async def check(self, body: bytes, mode: Mode) -> Wanted:
        """The submission in `body`.

        Raises:
            MalformedJson, InvalidRequest, UnknownOperation, InvalidInput: it is not one.
            Overloaded: it could not be checked.
            InternalError: an operation's input model has failed.
        """
        try:
            async with asyncio.timeout(WAIT_S):
                answer = _answers.decode(await self._process.ask(mode.encode(), body))
        except (DecoderBusyError, DecoderStartError, DecoderLostError) as error:
            raise Overloaded(f"the body could not be checked: {error}; nothing was accepted") from error
        except TimeoutError:
            raise Overloaded(
                f"{self._process.waiting} bodies wait to be checked; nothing was accepted"
            ) from None
        match answer:
            case _Accepted():
                data = msgspec.structs.replace(answer.data, input=msgspec.Raw(answer.input.view(body)))
                return Wanted(mode, data, answer.digest)
            case Refused():
                raise _KINDS[answer.reason](answer.message, answer.fields)
            case Fault():
                log.error("body.check_failed", error=answer.error)
                raise InternalError(
                    "an operation's check of its input failed; the service's log has the rest"
                )

    async def warm_up(self) -> None:
        """Start the process, so that the first long body need not wait for it."""
        with suppress(Overloaded, MalformedJson):
            await self.check(b"", Mode.ASYNC)

    async def close(self) -> None:
        """End the process."""
        await self._process.close()


def answer_with(check: BodyCheck, about: bytes, body: bytes) -> bytes:
    """What the process answers."""
    try:
        wanted = check.check(body, Mode(about.decode()))
    except Problem as problem:
        return _encoder.encode(Refused(reason=problem.code, message=problem.detail, fields=problem.fields))
    except MemoryError:
        raise  # the process ends, which tells the caller to try again
    except Exception as error:  # noqa: BLE001 - foreign code may raise anything; it is told where it was asked
        return _encoder.encode(Fault.of(error))
    found = _Accepted(
        data=msgspec.structs.replace(wanted.data, input=_NOTHING),
        digest=wanted.digest,
        input=Excerpt.of(memoryview(wanted.data.input), body),
    )
    return _encoder.encode(found)


_encoder: Final = msgspec.json.Encoder()
_answers: Final[msgspec.json.Decoder[_Answer]] = msgspec.json.Decoder(_Answer)


def main() -> None:
    """Serve with the operations of this installation."""
    check = BodyCheck(load_registry())
    serve(lambda about, body: answer_with(check, about, body), cpu_limit_s=CPU_LIMIT_S)


if __name__ == "__main__":
    main()
