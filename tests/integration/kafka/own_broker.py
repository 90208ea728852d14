"""A broker that a test may kill."""

import signal
from pathlib import Path

from infra.local.child import Child
from infra.local.distribution import Distribution
from infra.local.reporting import SilentReporter
from infra.local.settings import LocalSettings
from tests.fixtures.class_archive import broker_node, with_archive
from tests.fixtures.starting import started


class OwnBroker:
    """A node of the embedded stack with its data in `directory`."""

    def __init__(self, directory: Path) -> None:
        self._settings = LocalSettings()
        self._node = broker_node(Distribution.of(self._settings), directory)
        self.address = self._node.address
        self._child: Child | None = None

    async def format(self) -> None:
        await self._node.distribution.ensure(self._settings, SilentReporter(), kafka=True, mariadb=False)
        self._node = with_archive(self._node)
        await self._node.prepare()

    async def start(self) -> None:
        self._child = await started(self._node, self._node.data_dir)

    def kill(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.bury()
            self._child = None

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._child is not None
        self._child.signal(number)
