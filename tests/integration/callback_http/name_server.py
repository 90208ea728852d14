"""A name server on loopback: it answers for some names, denies others, and says nothing about the rest."""

import asyncio
import struct
from collections import Counter
from ipaddress import IPv4Address
from types import TracebackType
from typing import Final, Self

__all__ = ["NameServer"]

A: Final = 1
NO_SUCH_NAME: Final = 3
SERVFAIL: Final = 2


class NameServer(asyncio.DatagramProtocol):
    """Names and their addresses; names below a hanging domain get no answer, all others do not exist."""

    def __init__(self, names: dict[str, str], *, hanging: str = "", failing: str = "") -> None:
        self.asked: Counter[str] = Counter()
        self._names = names
        self._hanging = hanging
        self._failing = failing

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, ("127.0.0.1", 0))
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._transport.close()

    @property
    def address(self) -> str:
        host, port = self._transport.get_extra_info("sockname")
        return f"{host}:{port}"

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        name, end = _name(data)
        (kind,) = struct.unpack_from(">H", data, end)
        self.asked[name] += 1
        if self._hanging and name.endswith(self._hanging):
            return
        question = data[12 : end + 4]
        address = self._names.get(name)
        if self._failing and name.endswith(self._failing):
            reply = _head(data, SERVFAIL, 0) + question
        elif address is None:
            reply = _head(data, NO_SUCH_NAME, 0) + question
        elif kind != A:
            reply = _head(data, 0, 0) + question
        else:
            record = struct.pack(">HHHIH", 0xC00C, A, 1, 1, 4) + IPv4Address(address).packed
            reply = _head(data, 0, 1) + question + record
        self._transport.sendto(reply, addr)


def _head(query: bytes, code: int, answers: int) -> bytes:
    return query[:2] + struct.pack(">HHHHH", 0x8180 | code, 1, answers, 0, 0)


def _name(query: bytes) -> tuple[str, int]:
    labels, at = [], 12
    while length := query[at]:
        labels.append(query[at + 1 : at + 1 + length].decode("ascii"))
        at += 1 + length
    return ".".join(labels).lower(), at + 1
