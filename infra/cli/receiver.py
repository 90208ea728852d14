"""`consuma receiver`: a receiver of callbacks to try things out with, that can misbehave."""

import asyncio
import signal
import sys
from typing import Annotated
from urllib.parse import parse_qsl

from cyclopts import Parameter
from rich.console import Console
from rich.text import Text

from shared.testing.receiver import ReceivedCall, Receiver
from shared.testing.receiver_behaviour import Behaviour, BehaviourError, Deed, parse_behaviour

__all__ = ["receiver"]

USAGE_ERROR = 2


def receiver(
    *,
    port: int = 8080,
    host: str = "127.0.0.1",
    secret: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    behaviour: str = "",
) -> int:
    """Receive callbacks, print a line for each, and answer 200 unless told otherwise.

    A callback URL can ask for another treatment in its query, e.g. http://127.0.0.1:8080/hook?status=503&first=2
    (the first two tries fail) or ?do=hang; GET /-/calls counts what has arrived. `do` is one of hang, drip,
    drip-headers, reset, reset-early, close, truncate, garbage, huge-header, many-headers, bomb and flood; the
    other words are status, delay_ms, retry_after, location, delivery, cookie, body, keep and first.

    Args:
        port: where to listen; 0 lets the system choose.
        host: address to listen on.
        secret: a whsec_ secret to verify signatures with; may be repeated.
        behaviour: treatment of every call whose URL asks for none, as in a query: status=500&delay_ms=100.
    """
    if not all(secret):
        print("consuma receiver: --secret is empty: give a whsec_ secret, or leave it out", file=sys.stderr)
        return USAGE_ERROR
    try:
        asked = parse_behaviour(dict(parse_qsl(behaviour, strict_parsing=bool(behaviour))))
        return asyncio.run(_serve(host, port, secret, asked))
    except (BehaviourError, ValueError) as error:
        print(f"consuma receiver: {error}; deeds are {', '.join(Deed)}", file=sys.stderr)
        return USAGE_ERROR
    except OSError as error:
        print(f"consuma receiver: cannot listen on {host}:{port}: {error}; try --port 0", file=sys.stderr)
        return 1


async def _serve(host: str, port: int, secrets: tuple[str, ...], behaviour: Behaviour) -> int:
    console = Console(highlight=False, soft_wrap=True)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    server = Receiver(
        secrets=secrets, behaviour=behaviour, host=host, port=port, on_call=lambda call: _show(console, call)
    )
    async with server:
        console.print(f"receiving at {server.url()}", markup=False)
        await stop.wait()
    console.print(
        f"{sum(server.accepted.values())} accepted, {len(server.duplicates())} more than once", markup=False
    )
    return 0


def _show(console: Console, call: ReceivedCall) -> None:
    signature = {True: "signed", False: "BAD SIGNATURE", None: "signature not checked"}[call.signed]
    treated = call.behaviour
    told = str(treated.status) if treated.do is Deed.ANSWER else str(treated.do)
    text = Text(f"{call.webhook_id or '(no webhook-id)'}  {call.path}  {call.body_bytes} B  ")
    text.append(signature, style="red" if call.signed is False else "green" if call.signed else "")
    text.append(f"  try {call.number}  -> {told}")
    console.print(text)
