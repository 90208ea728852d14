"""The examples for direct producers do what they say, against the real service."""

import asyncio
import json
import shutil
import sys
import warnings
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from infra.local.distribution import Distribution
from infra.local.reporting import SilentReporter
from infra.local.settings import LocalSettings
from shared.settings import ServiceSettings
from tests.integration.producers.support import digest, until

pytestmark = [pytest.mark.kafka]

EXAMPLES = Path(__file__).parents[3] / "examples" / "producers"
PATIENCE_S = 100.0
EXPECTED = {"digest": digest("consuma", 1000), "rounds": 1000}


async def run(*command: str | Path, environment: dict[str, str]) -> str:
    """What a program writes to standard output; it has to end well."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(PATIENCE_S):
            out, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, errors.decode()
    return out.decode()


def needs(program: str) -> str:
    """Its path; a machine without it is told so in the summary, and cannot vouch for this example."""
    path = shutil.which(program)
    if path is None:
        warnings.warn(
            f"{program} is not installed: its example is NOT TESTED here", LoudWarning, stacklevel=2
        )
        pytest.skip(f"{program} is not installed: its example is NOT TESTED here")
    return path


class LoudWarning(UserWarning):
    """Something that ought to be tested is not."""


may_be_missing = pytest.mark.filterwarnings("default:.*NOT TESTED here")


@pytest.mark.parametrize("example", ["with_aiokafka.py", "with_confluent.py"])
async def test_python(example: str, environment: dict[str, str]) -> None:
    for _ in range(2):  # the second finds its reply topic there
        out = await run(sys.executable, EXAMPLES / example, environment=environment)
        assert json.loads(out)["result"] == EXPECTED


@may_be_missing
async def test_kcat(settings: ServiceSettings, environment: dict[str, str]) -> None:
    needs("kcat")
    topic = f"{settings.topic_prefix}replies.kcat"
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka)
    await admin.start()
    await admin.create_topics([NewTopic(topic, num_partitions=1, replication_factor=1)])

    async def created() -> bool:
        return topic in await admin.list_topics()

    await until(created)
    await admin.close()
    out = await run(EXAMPLES / "kcat.sh", environment=environment)
    assert json.loads(out)["result"] == EXPECTED


@may_be_missing
async def test_java(environment: dict[str, str]) -> None:
    """With the client of the broker that the embedded stack brings."""
    java = needs("java")
    needs("javac")
    settings = LocalSettings()
    distribution = Distribution.of(settings)
    await distribution.ensure(settings, SilentReporter(), kafka=True, mariadb=False)
    classes = distribution.class_path
    out = await run(java, "-cp", classes, EXAMPLES / "SubmitRequest.java", environment=environment)
    assert json.loads(out.splitlines()[-1])["result"] == EXPECTED
