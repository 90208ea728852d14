"""Parts that are started one by one and stopped together."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from infra.local.errors import LocalError, first_error
from infra.local.keeper import Keeper
from infra.local.logfile import LogFile
from infra.local.parts import Part
from infra.local.reporting import Reporter

__all__ = ["Crew"]


class Crew:
    """Keepers at work while it is entered; left, none of their processes runs any more."""

    def __init__(
        self, data_dir: Path, *, log_bytes: int, reporter: Reporter, changed: Callable[[], None]
    ) -> None:
        self.broken = asyncio.Event()
        """Set when a keeper has ended by itself."""

        self._data_dir = data_dir
        self._log_bytes = log_bytes
        self._reporter = reporter
        self._changed = changed
        self._keepers: dict[asyncio.Task[None], Keeper] = {}

    async def __aenter__(self) -> Self:
        """Nothing runs yet."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for keeper in self._keepers.values():
            keeper.stop()
        if self._keepers:
            await asyncio.wait(self._keepers)

    def keep(self, part: Part) -> Keeper:
        """Start `part` and keep it running."""
        keeper = Keeper(
            part,
            data_dir=self._data_dir,
            log=LogFile(self._data_dir / "logs" / f"{part.name}.log", self._log_bytes),
            reporter=self._reporter,
            changed=self._changed,
        )
        task = asyncio.create_task(keeper.run(), name=part.name)
        self._keepers[task] = keeper
        task.add_done_callback(self._ended)
        return keeper

    @property
    def keepers(self) -> dict[str, Keeper]:
        """By the name of the part."""
        return {keeper.name: keeper for keeper in self._keepers.values()}

    async def until_working(self, timeout_s: float) -> None:
        """Wait until every part works.

        Raises:
            LocalError: one dies again and again before it does, or the time is over.
        """
        try:
            with first_error():
                async with asyncio.timeout(timeout_s), asyncio.TaskGroup() as tasks:
                    for keeper in self._keepers.values():
                        tasks.create_task(keeper.until_working())
        except TimeoutError:
            late = [each for each in self._keepers.values() if not each.works]
            raise LocalError(
                f"{', '.join(each.name for each in late)} did not become ready within {timeout_s:.0f} s; see "
                f"{self._data_dir / 'logs'}, or give it more time with CONSUMA_START_TIMEOUT_S"
            ) from None

    def hasten(self) -> None:
        """Have every part end within a moment."""
        for keeper in self._keepers.values():
            keeper.hasten()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._reporter.warn(f"{task.get_name()} can no longer be kept running: {error!r}")
            self._keepers[task].give_up()
            self.broken.set()
