"""Where a callback may go, whatever its address looks like."""

import socket
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.address_policy import AddressPolicy, embedded_ipv4, parse_literal, parse_networks

STRICT = AddressPolicy()
LOCAL = AddressPolicy(parse_networks("127.0.0.0/8, ::1"))


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "127.0.1",
        "0x7f.1",
        "0x7F000001",
        "2130706433",
        "017700000001",
        "0177.0.0.1",
        "0",
        "0.0.0.0",
        "127.0.0.1.",
        "10.1.2.3",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "169.254.169.254",
        "0xa9fea9fe",
        "168.63.129.16",
        "100.100.100.200",
        "100.64.0.1",
        "192.0.0.192",
        "192.0.2.1",
        "192.88.99.1",
        "198.18.0.1",
        "198.51.100.7",
        "203.0.113.7",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "[::1]",
        "::7f00:1",
        "::8.8.8.8",
        "::ffff:127.0.0.1",
        "::ffff:7f00:1",
        "::ffff:10.0.0.1",
        "::ffff:0:127.0.0.1",
        "64:ff9b::127.0.0.1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1",
        "2002:7f00:1::",
        "2002:a00:1::1",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
        "2001:db8::1",
        "2001:10::1",
        "3fff::1",
        "2606:4700::5efe:127.0.0.1",
        "2606:4700::200:5efe:10.0.0.1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fe80::1%eth0",
        "fe80::1%25eth0",
        "2606:4700::1%1",
        "fec0::1",
        "ff02::1",
        "100::1",
        "4000::1",
        "5f00::1",
    ],
)
def test_what_is_not_public_is_refused_in_every_notation(host: str) -> None:
    assert STRICT.literal_problem(host) is not None


@pytest.mark.parametrize(
    "host",
    [
        "8.8.8.8",
        "1.1.1.1",
        "172.15.255.255",
        "172.32.0.1",
        "100.63.255.255",
        "100.128.0.1",
        "2606:4700::1111",
        "2a00:1450:4001::1",
        "::ffff:8.8.8.8",
        "64:ff9b::8.8.8.8",
        "2002:808:808::1",
        "receiver.example",
        "localhost",
        "1.2.3.4.example",
        "1.2.3.4.5",
        "256.1.1.1",
        "0x1g.1",
        "08.1.1.1",
        "a:b",
    ],
)
def test_what_is_public_or_a_name_passes_here(host: str) -> None:
    assert STRICT.literal_problem(host) is None


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"])
def test_what_the_operator_allows_passes(host: str) -> None:
    assert LOCAL.literal_problem(host) is None


@pytest.mark.parametrize("host", ["10.0.0.1", "169.254.169.254", "::ffff:10.0.0.1", "fe80::1", "::"])
def test_and_nothing_besides(host: str) -> None:
    assert LOCAL.literal_problem(host) is not None


def test_an_allowed_address_in_an_unusual_notation_is_named() -> None:
    assert LOCAL.literal_problem("127.1") == "an unusual way to write 127.0.0.1"


@given(
    st.integers(0, 2**32 - 1).map(IPv4Address), st.integers(0, 3), st.sampled_from(["{}", "0x{:x}", "0{:o}"])
)
def test_every_notation_of_the_system_s_own_parser_is_read_as_the_system_does(
    address: IPv4Address, split: int, form: str
) -> None:
    numbers = [*address.packed[:split], int.from_bytes(address.packed[split:], "big")]
    text = ".".join(form.format(number) for number in numbers)
    assert parse_literal(text) == ip_address(socket.inet_aton(text))


@given(st.text(alphabet="0123456789abcdefx.:%[]", max_size=24))
def test_nothing_that_the_system_takes_for_an_address_passes_as_a_name(text: str) -> None:
    try:
        meant = IPv4Address(socket.inet_aton(text))
    except OSError:
        return
    assert parse_literal(text) == meant


@given(st.integers(0, 2**32 - 1).map(IPv4Address))
def test_a_forbidden_address_stays_forbidden_inside_any_other(inner: IPv4Address) -> None:
    bits = int(inner)
    carriers = [
        IPv6Address((0xFFFF << 32) | bits),
        IPv6Address((0x64FF9B << 96) | bits),
        IPv6Address((0x2002 << 112) | (bits << 80)),
        IPv6Address((0x26064700 << 96) | (0x5EFE << 32) | bits),
    ]
    for carrier in carriers:
        assert inner in set(embedded_ipv4(carrier))
        assert (STRICT.problem(carrier) is None) == (STRICT.problem(inner) is None)


@given(st.ip_addresses())
def test_what_python_knows_as_private_is_never_let_through(address: IPv4Address | IPv6Address) -> None:
    if address.is_private or address.is_loopback or address.is_link_local or address.is_multicast:
        inner = isinstance(address, IPv6Address) and (address.ipv4_mapped or address.sixtofour)
        assert inner or STRICT.problem(address) is not None, "what has an IPv4 address in it goes by that one"


@given(st.ip_addresses())
def test_everything_passes_where_everything_is_allowed(address: IPv4Address | IPv6Address) -> None:
    assert AddressPolicy(parse_networks("0.0.0.0/0,::/0")).problem(address) is None


def test_networks_are_read_with_or_without_a_mask() -> None:
    assert [str(network) for network in parse_networks("10.1.2.3, 10.1.0.0/16,::1,")] == [
        "10.1.2.3/32",
        "10.1.0.0/16",
        "::1/128",
    ]
    with pytest.raises(ValueError, match="receiver"):
        parse_networks("receiver.example")
