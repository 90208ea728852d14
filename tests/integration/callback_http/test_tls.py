"""TLS is verified: who is trusted, by whom, and for which name."""

import datetime
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import IPv4Address
from pathlib import Path

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from services.callback.call import Answer
from shared.domain.callbacks import FailedAttempt, SuccessfulAttempt
from shared.domain.retry_policy import ErrorClass
from tests.integration.callback_http.raw_server import OK, Peer, RawServer
from tests.integration.callback_http.support import delivery, dispatch, open_client, open_dispatcher, post


def certificate(folder: Path, *, address: str = "127.0.0.1", days: int = 1) -> tuple[Path, Path]:
    """A self-signed certificate for `address`, valid from yesterday for `days`, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "receiver")])
    begin = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(begin)
        .not_valid_after(begin + datetime.timedelta(days=days, hours=12))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address(address))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = folder / "certificate.pem", folder / "key.pem"
    certificate_file.write_bytes(built.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return certificate_file, key_file


@asynccontextmanager
async def server(files: tuple[Path, Path]) -> AsyncIterator[tuple[str, set[object]]]:
    """A receiver behind TLS: its URL, and the set of its connections so far."""
    seen: set[object] = set()

    async def answer(request: web.Request) -> web.Response:
        seen.add(request.transport)
        await request.read()
        return web.Response()

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*files)
    app = web.Application()
    app.router.add_post("/hook", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.2)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    try:
        yield f"https://127.0.0.1:{runner.addresses[0][1]}/hook", seen
    finally:
        await runner.cleanup()


async def test_a_trusted_certificate_is_called_over_a_kept_connection(tmp_path: Path) -> None:
    files = certificate(tmp_path)
    async with server(files) as (url, seen), open_dispatcher(callback_ca_file=files[0]) as sender:
        for number in range(5):
            assert isinstance(await dispatch(sender, delivery(url, number)), SuccessfulAttempt)
    assert len(seen) == 1


async def test_an_unknown_a_foreign_and_an_expired_certificate_are_not(tmp_path: Path) -> None:
    cases = {"unknown": {}, "foreign": {"address": "127.0.0.2"}, "expired": {"days": 0}}
    for case, wrong in cases.items():
        folder = tmp_path / case
        folder.mkdir()
        files = certificate(folder, **wrong)  # type: ignore[arg-type]
        trusted = None if case == "unknown" else files[0]
        async with server(files) as (url, seen), open_dispatcher(callback_ca_file=trusted) as sender:
            end = await dispatch(sender, delivery(url))
        assert isinstance(end, FailedAttempt), case
        assert end.error_class is ErrorClass.TLS, (case, end)
        assert "certificate" in end.message
        assert not seen


async def test_what_a_server_says_behind_tls_before_it_is_asked_is_no_answer(tmp_path: Path) -> None:
    """Tickets of the handshake are no words of the server: they must not cost a connection."""
    files = certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*files)
    requests: list[bytes] = []

    async def speak_once(peer: Peer) -> None:
        if peer.number == 1:
            await peer.say(OK)
        else:
            while True:
                requests.append(await peer.request())
                await peer.say(OK)

    async with (
        RawServer(speak_once, tls=context) as server,
        open_client(ssl_context=ssl.create_default_context(cafile=files[0])) as client,
    ):
        for _ in range(20):
            assert isinstance(await post(client, server.url), Answer)
        assert len(requests) == 20
        assert len(server.peers) == 2
