"""Names are looked up side by side: whatever a zone does, it does to itself."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from services.callback import resolver
from services.callback.call import Answer, NotBegun, NotBegunError
from services.callback.ports import DeferralReason, Deferred
from services.callback.resolver import NoAddressError, SystemLookup
from shared.domain.retry_policy import ErrorClass
from shared.testing.receiver import Receiver
from tests.integration.callback_http.name_server import NameServer
from tests.integration.callback_http.support import (
    delivery,
    dispatch,
    failed,
    open_client,
    open_dispatcher,
    post,
)
from tests.support.waiting import until

NAMES = {
    "victim.co.uk": "127.0.0.1",
    **{f"{n}.victim.co.uk": "127.0.0.1" for n in range(8)},
    "vault.corp.internal": "10.3.7.12",
    "api.corp.test": "127.0.0.1",
}


@asynccontextmanager
async def open_lookup(server: NameServer) -> AsyncIterator[SystemLookup]:
    lookup = SystemLookup([server.address])
    try:
        yield lookup
    finally:
        await lookup.close()


async def test_a_hanging_zone_costs_nobody_else_a_moment() -> None:
    """A few hundred lookups that get no answer, in the same public suffix as the healthy one."""
    async with (
        NameServer(NAMES, hanging="evil.co.uk") as server,
        open_lookup(server) as lookup,
        Receiver() as receiver,
        open_client(lookup=lookup, connect_timeout_s=0.5) as client,
    ):
        hanging = [
            asyncio.create_task(post(client, f"http://h{number}.evil.co.uk:{receiver.port}/"))
            for number in range(300)
        ]
        await until(lambda: len(server.asked) >= 300)
        for number in range(8):
            outcome = await post(client, f"http://{number}.victim.co.uk:{receiver.port}/hook")
            assert isinstance(outcome, Answer)
        for outcome in await asyncio.gather(*hanging):
            assert failed(outcome).error_class is ErrorClass.TIMEOUT_CONNECT


async def test_a_name_server_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolver, "PATIENCE_S", 0.1)
    async with NameServer({}, hanging="test") as server, open_lookup(server) as lookup:
        async with asyncio.timeout(10):
            with pytest.raises(OSError, match="no name server answered"):
                await lookup("receiver.test")
        assert lookup.under_way == 0


def hosts_of_the_system() -> list[tuple[str, str]]:
    lines = [line.partition("#")[0].split() for line in Path("/etc/hosts").read_text().splitlines()]
    return [(name, line[0]) for line in lines for name in line[1:] if "." in line[0]]


async def test_the_system_s_hosts_and_search_domains_are_honoured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LOCALDOMAIN", "corp.test")
    async with NameServer(NAMES) as server, open_lookup(server) as lookup:
        for name, address in hosts_of_the_system():
            assert address in await lookup(name)
        assert not server.asked, "the name server was asked for what the hosts file knows"
        assert await lookup("api") == ["127.0.0.1"]
        assert "127.0.0.1" in await lookup("localhost")
        with pytest.raises(NoAddressError):
            await lookup("absent.test")


class Hanging:
    """A lookup that gets no room, as when too many are under way."""

    async def __call__(self, host: str) -> Sequence[str]:
        raise NotBegunError("too many lookups are under way")


async def test_a_lookup_for_which_there_is_no_room_is_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolver, "MOST_OF_ZONE", 2)
    async with NameServer(NAMES, hanging="evil.test") as server, open_lookup(server) as lookup:
        hanging = [asyncio.create_task(lookup(f"h{number}.evil.test")) for number in range(2)]
        await until(lambda: lookup.under_way == 2)
        with pytest.raises(NotBegunError):
            await lookup("h3.evil.test")
        assert await lookup("victim.co.uk") == ["127.0.0.1"]
        for task in hanging:
            task.cancel()
        await asyncio.wait(hanging)
        assert lookup.under_way == 0


async def test_what_never_began_is_put_off_and_spends_nothing() -> None:
    async with open_client(lookup=Hanging()) as client:
        assert isinstance(await post(client, "http://receiver.test/hook"), NotBegun)
    async with open_dispatcher(breaker_failures=1, lookup=Hanging()) as dispatcher:
        for _ in range(3):
            away = await dispatch(dispatcher, delivery("http://receiver.test/hook"))
            assert isinstance(away, Deferred)
            assert away.reason is DeferralReason.NOT_BEGUN, "the breaker of its origin took it for a failure"


async def test_no_name_server_at_all_is_no_fault_of_a_receiver() -> None:
    async with NameServer({}) as server:
        address = server.address
    lookup = SystemLookup([address])
    with pytest.raises(NotBegunError, match="name server"):
        await lookup("receiver.test")
    await lookup.close()


async def test_nobody_learns_which_internal_names_exist() -> None:
    async with (
        NameServer(NAMES) as server,
        open_lookup(server) as lookup,
        open_client(allow="", lookup=lookup) as client,
    ):
        internal = await post(client, "http://vault.corp.internal/x")
        absent = await post(client, "http://absent.corp.internal/x")
    assert internal == absent
    assert failed(internal).error_class is ErrorClass.DNS
    assert "10." not in failed(internal).message


async def test_a_zone_that_fails_is_told_from_a_name_that_is_not_there() -> None:
    async with (
        NameServer(NAMES, failing="broken.test") as server,
        open_lookup(server) as lookup,
        open_client(lookup=lookup) as client,
    ):
        attempt = failed(await post(client, "http://a.broken.test/x"))
    assert attempt.error_class is ErrorClass.DNS
    assert "name server" in attempt.message


async def test_an_address_that_refuses_is_not_told() -> None:
    async with Receiver() as receiver:
        port = receiver.port
    async with (
        NameServer(NAMES) as server,
        open_lookup(server) as lookup,
        open_client(lookup=lookup) as client,
    ):
        attempt = failed(await post(client, f"http://victim.co.uk:{port}/x"))
    assert attempt.error_class is ErrorClass.REFUSED
    assert "127" not in attempt.message
