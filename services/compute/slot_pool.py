"""The slots of one consumer, with started spares, so that a death costs the next request no start."""

import asyncio
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Final

import structlog
from prometheus_client import Counter

from services.compute.slot import RecyclePolicy, Slot, SlotServerError
from services.compute.slot_client import SlotServerClient
from services.compute.slot_queue import SlotQueue
from shared.domain.types import Mode
from shared.kafka.backoff import backoff_s

__all__ = ["SlotLease", "SlotPool", "SlotPoolSettings"]

log = structlog.get_logger()

SLOTS_REPLACED: Final = Counter("consuma_slots_replaced", "Slots that died, were killed or were retired.")
STOP_TIMEOUT_S: Final = 5.0
MAX_BACKOFF_S: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotPoolSettings:
    """How many slots there are and how long each is used.

    Args:
        slots: how many tasks run at a time.
        spares: processes started beyond them; a sync request that finds every slot taken runs in one.
        reserved: slots for sync requests while async ones wait too; by default half of them, one at least.
        recycle: when a slot is replaced.
    """

    slots: int = 2
    spares: int = 1
    reserved: int | None = None
    recycle: RecyclePolicy = field(default_factory=RecyclePolicy)

    def sync_share(self) -> int:
        """The slots that are reserved."""
        return max(1, self.slots // 2) if self.reserved is None else self.reserved


class SlotLease:
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

    As many usable slots as are set, and spares, are kept alive. At most `slots` of them run a task at a time,
    but where sync requests would wait for async ones.
    """

    def __init__(self, settings: SlotPoolSettings) -> None:
        self._settings = settings
        self._queue: SlotQueue[SlotLease] = SlotQueue(
            settings.slots, settings.sync_share(), borrowed=settings.spares
        )
        self._alive: set[Slot] = set()
        self._free: list[Slot] = []
        self._short = asyncio.Event()
        self._tried = asyncio.Event()
        self._backoff = backoff_s(cap_s=MAX_BACKOFF_S)
        self._pause_s = 0.0
        self._server: SlotServerClient | None = None
        self._filler: asyncio.Task[None] | None = None
        self._stopping = False

    async def start(self) -> None:
        """Start the slots and the spares; those that fail are tried again, by and by.

        Raises:
            SlotServerError: the operations cannot be loaded; the message says what to repair.
        """
        self._server = SlotServerClient(self._settings.recycle)
        try:
            await self._server.start()
            self._filler = asyncio.create_task(self._keep_full(self._server), name="slot-filler")
            tried = asyncio.create_task(self._tried.wait())
            await asyncio.wait({tried, self._filler}, return_when=asyncio.FIRST_COMPLETED)
            tried.cancel()
            if self._filler.done():
                self._filler.result()
        except BaseException:
            await self.stop()
            raise

    async def watch(self) -> None:
        """Wait until the pool is stopped.

        Raises:
            SlotServerError: the slots are gone for good; the process should end, and be restarted.
        """
        if self._server is None or self._filler is None:
            raise AssertionError("the pool has not been started")
        await asyncio.wait({self._server.lost, self._filler}, return_when=asyncio.FIRST_COMPLETED)
        if self._server.lost.done():
            return self._server.lost.result()
        return self._filler.result()

    async def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """Kill every slot and what runs in it; all of their processes are gone afterwards."""
        self._stopping = True
        if self._filler is not None:
            self._filler.cancel()
            await asyncio.wait({self._filler})
        if self._server is not None:
            await self._server.stop(timeout_s)
            for ended in (self._server.lost, self._filler):
                if ended is not None and ended.done() and not ended.cancelled():
                    ended.exception()  # `watch` is who tells of it

    def acquire(self, mode: Mode, operation: str) -> SlotLease:
        """A lease of a slot, to be entered."""
        return SlotLease(self, mode, operation)

    def queue(self, lease: SlotLease) -> None:
        """Have `lease` wait for a slot."""
        self._queue.add(lease, lease.mode, lease.operation)
        self._hand_out()

    def give_up(self, lease: SlotLease) -> None:
        """The wait of `lease` has ended with an error; it may have been given a slot on the way."""
        if lease.granted.cancelled() or lease.granted.exception() is not None:
            self._queue.remove(lease, lease.mode, lease.operation)
        else:
            self.give_back(lease)

    def give_back(self, lease: SlotLease) -> None:
        """`lease` needs its slot no more."""
        slot = lease.granted.result()
        self._queue.release(lease.mode, lease.operation)
        if slot.usable:
            self._free.append(slot)
            self._backoff = backoff_s(cap_s=MAX_BACKOFF_S)
        else:
            slot.retire()
            self._replace(slot)
        self._hand_out()

    @property
    def ready(self) -> bool:
        """Whether there is a slot that works."""
        return any(slot.usable for slot in self._alive)

    @property
    def running(self) -> int:
        """Slots in use."""
        return self._queue.running

    @property
    def waiting(self) -> int:
        """Callers that wait for a slot."""
        return self._queue.waiting

    def _hand_out(self) -> None:
        """Match free slots and leases; the slot that was used last is the one with warm caches."""
        while self._free:
            if not self._free[-1].is_alive():
                self._free.pop()  # its death is on its way
                continue
            lease = self._queue.take()
            if lease is None:
                return
            if lease.granted.done():
                self._queue.release(lease.mode, lease.operation)
            else:
                lease.granted.set_result(self._free.pop())

    def _replace(self, slot: Slot, _: asyncio.Future[None] | None = None) -> None:
        """Have another slot started in place of one that died or is to be retired."""
        if self._stopping or slot not in self._alive:
            return
        self._alive.discard(slot)
        if slot in self._free:
            self._free.remove(slot)
        if slot.tasks == 0:
            self._pause_s = next(self._backoff)
        SLOTS_REPLACED.inc()
        log.info("slot.ended", slot=slot.number, pid=slot.pid, reason=slot.retire_reason)
        self._short.set()

    async def _keep_full(self, server: SlotServerClient) -> None:
        while True:
            while len(self._alive) < self._settings.slots + self._settings.spares:
                await self._add(server)
            self._tried.set()
            await self._short.wait()
            self._short.clear()

    async def _add(self, server: SlotServerClient) -> None:
        """Start a slot; after failures, and deaths of slots that had done nothing, ever more slowly."""
        await asyncio.sleep(self._pause_s)
        self._pause_s = 0.0
        try:
            slot = await server.start_slot()
        except SlotServerError:
            raise
        except OSError as error:
            self._pause_s = next(self._backoff)
            self._tried.set()
            log.warning("slot.start_retried", error=str(error), wait_s=round(self._pause_s, 2))
            return
        self._alive.add(slot)
        self._free.append(slot)
        slot.died.add_done_callback(partial(self._replace, slot))
        self._hand_out()
