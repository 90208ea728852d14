"""`consuma submit`, `get` and `operations` as processes against a running API."""

import asyncio
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.integration.ingest.compute_twin import ComputeTwin
from tests.integration.ingest.support import PATIENCE_S, until

pytestmark = [pytest.mark.kafka, pytest.mark.mysql]

INPUT = '{"seed":"consuma","rounds":3}'


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str


async def consuma(*arguments: str, url: httpx.URL | str, stdin: str = "") -> Ran:
    command = "import sys; from infra.cli.main import main; main()"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        command,
        *arguments,
        "--url",
        str(url),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(PATIENCE_S):
        out, err = await process.communicate(stdin.encode())
    assert process.returncode is not None
    return Ran(process.returncode, out.decode(), err.decode())


async def test_a_sync_request_prints_its_outcome(api: httpx.AsyncClient, compute: ComputeTwin) -> None:
    ran = await consuma("submit", "sync", "hash_chain", INPUT, url=api.base_url)
    assert (ran.code, ran.err) == (0, "")
    assert json.loads(ran.out)["result"]["rounds"] == 3
    table = await consuma("submit", "sync", "hash_chain", INPUT, "-o", "table", url=api.base_url)
    assert "succeeded" in table.out


async def test_a_failed_request_has_an_exit_code_of_its_own(
    api: httpx.AsyncClient, compute: ComputeTwin
) -> None:
    compute.failing = True
    ran = await consuma("submit", "sync", "hash_chain", INPUT, url=api.base_url)
    assert ran.code == 3
    assert json.loads(ran.out)["error"]["code"] == "crashed"


@pytest.mark.usefixtures("projector")
async def test_inputs_come_from_arguments_files_and_standard_input(
    api: httpx.AsyncClient, compute: ComputeTwin, tmp_path: Path
) -> None:
    (tmp_path / "input.json").write_text(INPUT)
    for source, stdin in ((f"@{tmp_path / 'input.json'}", ""), ("-", INPUT)):
        ran = await consuma("submit", "async", "hash_chain", source, url=api.base_url, stdin=stdin)
        assert ran.code == 0, ran.err
    assert [bytes(each.request.input).decode() for each in compute.submissions] == [INPUT, INPUT]
    ids = [each.request.request_id for each in compute.submissions]
    ran = await consuma("get", ids[1], "--wait", "30", url=api.base_url)
    assert json.loads(ran.out)["status"] == "succeeded"
    table = await consuma("get", ids[1], "-o", "table", url=api.base_url)
    assert "consuma.request.succeeded.v1" in table.out


@pytest.mark.usefixtures("projector")
async def test_options_are_passed_on(api: httpx.AsyncClient, compute: ComputeTwin) -> None:
    callback_url = "http://127.0.0.1:9/hook"
    ran = await consuma(
        *("submit", "async", "hash_chain", INPUT, "--callback-url", callback_url, "--timeout", "2.5"),
        *("--client-reference", "order-1", "--idempotency-key", "k-1", "--wait", "30"),
        url=api.base_url,
    )
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["status"] == "succeeded"
    request = compute.submissions[0].request
    assert (request.callback_url, request.timeout_ms, request.client_reference) == (
        callback_url,
        2_500,
        "order-1",
    )


async def test_what_is_not_finished_is_said_so(api: httpx.AsyncClient, compute: ComputeTwin) -> None:
    compute.held = True
    ran = await consuma("submit", "sync", "hash_chain", INPUT, "--wait", "0", url=api.base_url)
    assert ran.code == 4
    await until(lambda: bool(compute.submissions))
    assert f"consuma get {json.loads(ran.out)['id']}" in ran.err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("submit", "sync", "nope"), 2, "unknown operation 'nope'"),
        (("submit", "sync", "hash_chain", '{"seed":7}'), 2, "input.seed"),
        (("submit", "sync", "hash_chain", "{"), 2, "not JSON"),
        (("submit", "sync", "hash_chain", "@/no/such/file"), 2, "cannot be read"),
        (("submit", "async", "hash_chain", INPUT, "--callback-url", "ftp://x"), 2, "callback_url"),
        (("submit", "sync"), 2, "OPERATION"),
        (("get", "abc"), 2, "UUID"),
        (("operations", "nope"), 2, "hash_chain"),
    ],
    ids=str,
)
async def test_refusals_are_told_in_words(
    api: httpx.AsyncClient, arguments: tuple[str, ...], code: int, words: str
) -> None:
    ran = await consuma(*arguments, url=api.base_url)
    assert ran.code == code
    assert words in ran.out + ran.err
    assert "Traceback" not in ran.err


async def test_an_api_that_is_not_there(api: httpx.AsyncClient) -> None:
    ran = await consuma("operations", url="http://127.0.0.1:1")
    assert (ran.code, ran.out) == (1, "")
    assert "CONSUMA_URL" in ran.err


async def test_operations_can_be_listed_and_shown(api: httpx.AsyncClient) -> None:
    listed = await consuma("operations", url=api.base_url)
    assert "primes" in [each["name"] for each in json.loads(listed.out)]
    table = await consuma("operations", "-o", "table", url=api.base_url)
    assert "value_at_risk" in table.out
    shown = await consuma("operations", "hash_chain", "-o", "table", url=api.base_url)
    assert "consuma submit sync hash_chain" in shown.out


async def test_requests_are_listed_and_counted(api: httpx.AsyncClient) -> None:
    listed = await consuma("list", "--mode", "sync", "--status", "failed", url=api.base_url)
    assert listed.code == 0
    assert all(each["mode"] == "sync" for each in json.loads(listed.out))
    table = await consuma("stats", "-o", "table", url=api.base_url)
    assert table.code == 0
    assert "callback_status" in table.out
    wrong = await consuma("list", "--status", "cancelled", url=api.base_url)
    assert wrong.code == 2
    assert "status" in wrong.err


@pytest.mark.usefixtures("projector")
async def test_waiting_in_vain_has_an_exit_code_of_its_own(
    api: httpx.AsyncClient, compute: ComputeTwin
) -> None:
    compute.held = True
    ran = await consuma("submit", "async", "hash_chain", INPUT, url=api.base_url)
    request_id = json.loads(ran.out)["id"]
    shown: list[Ran] = []

    async def found() -> bool:
        shown.append(await consuma("get", request_id, "--wait", "0.1", url=api.base_url))
        return shown[-1].code != 2  # not visible yet

    await until(found)
    assert shown[-1].code == 4
    assert json.loads(shown[-1].out)["id"] == request_id
    assert "not finished" in shown[-1].err


@pytest.mark.usefixtures("projector")
async def test_a_request_is_cancelled(api: httpx.AsyncClient, compute: ComputeTwin) -> None:
    compute.held = True
    ran = await consuma("submit", "async", "hash_chain", INPUT, url=api.base_url)
    request_id = json.loads(ran.out)["id"]
    ends: list[Ran] = []

    async def cancelled() -> bool:
        ends.append(await consuma("cancel", request_id, url=api.base_url))
        return "try again" not in ends[-1].err  # it is not visible yet

    await until(cancelled)
    assert ends[-1].code == 0
    assert request_id in ends[-1].out


async def test_a_reader_that_has_had_enough_ends_it_quietly(api: httpx.AsyncClient) -> None:
    command = f"{sys.executable} -c 'from infra.cli.main import main; main()' operations --url {api.base_url}"
    process = await asyncio.create_subprocess_shell(
        f"{command} | true", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(PATIENCE_S):
        _, err = await process.communicate()
    assert err == b""
