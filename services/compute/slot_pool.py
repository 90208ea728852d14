"""The slots of one consumer, with started spares, so that a death costs the next request no start."""

import asyncio
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Final

import structlog
from prometheus_client import Counter

from services.compute.slot import Slot, SlotServerError, SlotWear
from services.compute.slot_host import SlotHost
from services.compute.slot_queue import SlotQueue
from shared.domain.types import Mode
from shared.kafka.backoff import backoff_s

__all__ = ["SlotPool", "SlotPoolSettings", "Turn"]

log = structlog.get_logger()

SLOTS_REPLACED: Final = Counter("consuma_slots_replaced", "Slots that died, were killed or wore out.")
STOP_TIMEOUT_S: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotPoolSettings:
    """How many slots there are and how long each is used.

    Args:
        slots: how many tasks run at a time.
        spares: processes started beyond them; a sync request that finds every slot taken runs in one.
        reserved: slots for sync requests while async ones wait too; by default half of them, one at least.
        wear: when a slot is replaced.
    """

    slots: int = 2
    spares: int = 1
    reserved: int | None = None
    wear: SlotWear = field(default_factory=SlotWear)

    def sync_share(self) -> int:
        """The slots that are reserved."""
        return max(1, self.slots // 2) if self.reserved is None else self.reserved


class Turn:
    """A place in the queue for a slot, and then the slot: held while this is entered.

    The caller bounds how many wait; `SlotQueue` says who is next.
    """

    __slots__ = ("_pool", "granted", "mode", "operation")

    def __init__(self, pool: "SlotPool", mode: Mode, operation: str) -> None:
        self.mode = mode
        self.operation = operation
        self.granted: asyncio.Future[Slot] = asyncio.get_running_loop().create_future()
        self._pool = pool

    def refuse(self, error: Exception) -> None:
        """End the wait with `error`; without effect on who has a slot."""
        if not self.granted.done():
            self.granted.set_exception(error)

    async def __aenter__(self) -> Slot:
        self._pool.queue(self)
        try:
            return await self.granted
        except BaseException:
            self._pool.give_up(self)
            raise

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._pool.give_back(self)


class SlotPool:
    """Hands slots to whoever is next and replaces those that are spent.

    As many processes as slots and spares are kept alive. At most `slots` of them run a task at a time, but
    where sync requests would wait for async ones.
    """

    def __init__(self, settings: SlotPoolSettings) -> None:
        self._settings = settings
        self._queue: SlotQueue[Turn] = SlotQueue(
            settings.slots, settings.sync_share(), borrowed=settings.spares
        )
        self._alive: set[Slot] = set()
        self._free: list[Slot] = []
        self._short = asyncio.Event()
        self._host: SlotHost | None = None
        self._filler: asyncio.Task[None] | None = None
        self._stopping = False

    async def start(self) -> None:
        """Start the slots and the spares.

        Raises:
            SlotServerError: the operations cannot be loaded; the message says what to repair.
        """
        self._host = SlotHost(self._settings.wear)
        try:
            await self._host.start()
            await self._fill(self._host)
        except BaseException:
            await self._host.stop(STOP_TIMEOUT_S)
            raise
        self._filler = asyncio.create_task(self._keep_full(self._host), name="slot-filler")

    async def watch(self) -> None:
        """Wait until the pool is stopped.

        Raises:
            SlotServerError: the slots are gone for good; the process should end, and be restarted.
        """
        if self._host is None or self._filler is None:
            raise AssertionError("the pool has not been started")
        await asyncio.wait({self._host.lost, self._filler}, return_when=asyncio.FIRST_COMPLETED)
        if self._host.lost.done():
            return self._host.lost.result()
        return self._filler.result()

    async def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """Kill every slot and what runs in it; all of their processes are gone afterwards."""
        self._stopping = True
        if self._filler is not None:
            self._filler.cancel()
            await asyncio.wait({self._filler})
        if self._host is not None:
            await self._host.stop(timeout_s)
            for ended in (self._host.lost, self._filler):
                if ended is not None and ended.done() and not ended.cancelled():
                    ended.exception()  # `watch` is who tells of it

    def acquire(self, mode: Mode, operation: str) -> Turn:
        """A turn at a slot, to be entered."""
        return Turn(self, mode, operation)

    def queue(self, turn: Turn) -> None:
        """Have `turn` wait for a slot."""
        self._queue.add(turn, turn.mode, turn.operation)
        self._hand_out()

    def give_up(self, turn: Turn) -> None:
        """The wait of `turn` has ended with an error; it may have been given a slot on the way."""
        if turn.granted.cancelled() or turn.granted.exception() is not None:
            self._queue.remove(turn, turn.mode, turn.operation)
        else:
            self.give_back(turn)

    def give_back(self, turn: Turn) -> None:
        """`turn` needs its slot no more."""
        slot = turn.granted.result()
        self._queue.release(turn.mode, turn.operation)
        if slot.usable:
            self._free.append(slot)
        else:
            slot.retire()
        self._hand_out()

    @property
    def ready(self) -> bool:
        """Whether there is a slot that works."""
        return bool(self._alive)

    @property
    def running(self) -> int:
        """Slots in use."""
        return self._queue.running

    @property
    def waiting(self) -> int:
        """Callers that wait for a slot."""
        return self._queue.waiting

    def _hand_out(self) -> None:
        """Match free slots and turns; the slot that was used last is the one with warm caches."""
        while self._free:
            turn = self._queue.take()
            if turn is None:
                return
            if turn.granted.done():
                self._queue.release(turn.mode, turn.operation)
            else:
                turn.granted.set_result(self._free.pop())

    def _on_death(self, slot: Slot, _: asyncio.Future[None]) -> None:
        self._alive.discard(slot)
        if slot in self._free:
            self._free.remove(slot)
        if self._stopping:
            return
        SLOTS_REPLACED.inc()
        log.info("slot.ended", slot=slot.number, pid=slot.pid, reason=slot.spent)
        self._short.set()

    async def _keep_full(self, host: SlotHost) -> None:
        while True:
            await self._short.wait()
            self._short.clear()
            await self._fill(host)

    async def _fill(self, host: SlotHost) -> None:
        while len(self._alive) < self._settings.slots + self._settings.spares:
            slot = await _start(host)
            self._alive.add(slot)
            self._free.append(slot)
            slot.died.add_done_callback(partial(self._on_death, slot))
            self._hand_out()


async def _start(host: SlotHost) -> Slot:
    """One more slot, as soon as the system has room for it."""
    for wait_s in backoff_s(cap_s=2.0):
        try:
            return await host.start_slot()
        except SlotServerError:
            raise
        except OSError as error:
            log.warning("slot.start_retried", error=str(error), wait_s=round(wait_s, 2))
            await asyncio.sleep(wait_s)
    raise AssertionError("back-off has no end")
