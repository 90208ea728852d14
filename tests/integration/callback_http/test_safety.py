"""Callbacks reach nothing that policy forbids: literals, names, a rebinding name, a redirect."""

from collections.abc import Sequence

import pytest

from services.callback.call import Answer, NotBegun
from services.callback.targets import TargetPolicy
from shared.domain.address_policy import AddressPolicy
from shared.domain.retry_policy import ErrorClass
from shared.testing.receiver import Receiver
from tests.integration.callback_http.support import failed, open_client, post

PUBLIC = "93.184.216.34"


class ScriptedLookup:
    """Answers each lookup with the next of the given addresses; the last one stays."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.lookups = 0

    async def __call__(self, host: str) -> Sequence[str]:
        self.lookups += 1
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f.1",
        "[::ffff:127.0.0.1]",
        "[::1]",
        "\uff11\uff12\uff17.0.0.1",
    ],
)
async def test_loopback_is_out_of_reach_in_every_notation(host: str) -> None:
    async with Receiver() as receiver, open_client(allow="") as client:
        attempt = failed(await post(client, f"http://{host}:{receiver.port}/hook?token=hidden"))
    assert attempt.error_class is ErrorClass.FORBIDDEN
    assert not receiver.calls
    assert "hidden" not in attempt.message


async def test_a_name_that_leads_to_loopback_is_not_called_and_may_heal() -> None:
    lookup = ScriptedLookup(["127.0.0.1", "::1"])
    async with Receiver() as receiver, open_client(allow="", lookup=lookup) as client:
        attempt = failed(await post(client, f"http://receiver.test:{receiver.port}/hook"))
        system = failed(await post(client, f"http://localhost:{receiver.port}/hook"))
    assert (attempt.error_class, system.error_class) == (ErrorClass.DNS, ErrorClass.DNS)
    assert not receiver.calls


async def test_a_name_with_one_good_address_is_called_there_only() -> None:
    lookup = ScriptedLookup(["10.0.0.1", "169.254.169.254", "127.0.0.1"])
    async with Receiver() as receiver, open_client(lookup=lookup) as client:
        assert isinstance(await post(client, f"http://receiver.test:{receiver.port}/hook"), Answer)
    assert len(receiver.calls) == 1


async def test_a_name_that_is_bound_anew_after_vetting_leads_nowhere_else() -> None:
    """The address that was vetted is the one that is connected to: the second answer is never asked for."""
    lookup = ScriptedLookup(["127.0.0.2"], ["127.0.0.1"])
    async with Receiver() as receiver, open_client(allow="127.0.0.2", lookup=lookup) as client:
        url = f"http://receiver.test:{receiver.port}/hook"
        assert failed(await post(client, url)).error_class is ErrorClass.REFUSED
        assert lookup.lookups == 1
        assert failed(await post(client, url)).error_class is not ErrorClass.FORBIDDEN
    assert not receiver.calls


async def test_a_name_that_turns_from_public_to_loopback_is_out_of_reach_then() -> None:
    lookup = ScriptedLookup([PUBLIC], ["127.0.0.1"])
    async with Receiver() as receiver:
        url = f"http://receiver.test:{receiver.port}/hook"
        async with open_client(allow="", lookup=lookup, connect_timeout_s=0.2) as client:
            assert failed(await post(client, url)).error_class in (
                ErrorClass.TIMEOUT_CONNECT,
                ErrorClass.REFUSED,
            )
        async with open_client(allow="", lookup=lookup) as client:
            assert failed(await post(client, url)).error_class is ErrorClass.DNS
    assert not receiver.calls


async def test_the_last_gate_holds_where_the_first_ones_are_blind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TargetPolicy, "check_url", lambda *_: None)
    async with Receiver() as receiver, open_client(allow="") as client:
        attempt = failed(await post(client, receiver.url()))
        monkeypatch.setattr(AddressPolicy, "literal_problem", lambda *_: None)
        named = failed(await post(client, f"http://[::ffff:127.0.0.1]:{receiver.port}/"))
    assert attempt.error_class is ErrorClass.FORBIDDEN
    assert named.error_class is ErrorClass.FORBIDDEN
    assert not receiver.calls


async def test_a_forward_proxy_resolves_and_literals_stay_vetted() -> None:
    """The receiver plays the proxy: it is asked for the absolute URL, and no name is looked up here."""
    lookup = ScriptedLookup(["192.0.2.1"])
    async with Receiver() as proxy:
        address = f"http://127.0.0.1:{proxy.port}"
        async with open_client(allow="", lookup=lookup, proxy=address) as client:
            outcome = await post(client, "http://receiver.test/hook")
            literal = failed(await post(client, "http://10.0.0.1/hook"))
            tunnelled = await post(client, "https://receiver.test/hook")
    assert isinstance(outcome, Answer)
    assert dict(proxy.calls[0].headers)["Host"] == "receiver.test"
    assert lookup.lookups == 0
    assert literal.error_class is ErrorClass.FORBIDDEN
    assert isinstance(tunnelled, NotBegun), "a proxy that refuses CONNECT is no fault of the receiver"


async def test_a_host_with_final_dots_is_the_host_without() -> None:
    lookup = ScriptedLookup(["127.0.0.1"])
    async with Receiver() as receiver, open_client(lookup=lookup) as client:
        for dots in ("", ".", "..."):
            url = f"http://receiver.test{dots}:{receiver.port}/hook"
            assert isinstance(await post(client, url), Answer)
        assert receiver.connections == 1
        assert {dict(call.headers)["Host"] for call in receiver.calls} == {f"receiver.test:{receiver.port}"}
