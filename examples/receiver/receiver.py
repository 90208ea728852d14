"""A receiver of consuma's callbacks: verifies signature and age, and acts on every message once.

    pip install fastapi uvicorn standardwebhooks
    WEBHOOK_SECRETS="whsec_…" uvicorn receiver:app --port 8080

What it shows, in the order in which it matters:

1. Read the raw body, no more of it than you would ever take, and verify it before anything else looks at
   it. `standardwebhooks` refuses a signature that does not fit and a timestamp that is older than five
   minutes; at garbage it may raise any ValueError.
2. Know several secrets, so that a rotation needs no moment at which both sides change.
3. Remember `webhook-id` in the same transaction as the effect: a callback may come twice, under one id.
4. Answer 2xx when the effect is durable, and soon: work that takes long belongs into a queue of your own.
"""

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager

from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from standardwebhooks import Webhook, WebhookVerificationError

LARGEST_BODY = 5 * 1024 * 1024


def create_app(secrets: list[str], database: str) -> FastAPI:
    """The receiver; `database` is the file that remembers what was done."""
    webhooks = [Webhook(secret) for secret in secrets]
    with open_database(database) as connection:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS done (webhook_id TEXT PRIMARY KEY, outcome TEXT NOT NULL)"
        )
    app = FastAPI()

    @app.post("/hook")
    async def hook(request: Request) -> Response:
        body = await read_body(request)
        if body is None:
            return Response(status_code=413, headers={"connection": "close"})
        headers = {name.lower(): value for name, value in request.headers.items()}
        if not any(is_genuine(webhook, body, headers) for webhook in webhooks):
            return Response("not signed with a secret known here, or too old\n", status_code=401)
        first = await run_in_threadpool(act_once, database, headers["webhook-id"], json.loads(body))
        return Response("done\n" if first else "done before\n")

    return app


async def read_body(request: Request) -> bytes | None:
    """The body; None as soon as it is known to be larger than `LARGEST_BODY`."""
    announced = request.headers.get("content-length", "0")
    if not announced.isdecimal() or int(announced) > LARGEST_BODY:
        return None
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > LARGEST_BODY:
            return None
    return bytes(body)


def is_genuine(webhook: Webhook, body: bytes, headers: dict[str, str]) -> bool:
    """Whether this secret signed the body, not longer than five minutes ago."""
    try:
        webhook.verify(body, headers)
    except (WebhookVerificationError, ValueError):  # the latter at headers or bytes that are not text
        return False
    return True


def act_once(database: str, webhook_id: str, outcome: dict[str, object]) -> bool:
    """Record the message and its effect together; False when it was done before."""
    with open_database(database) as connection:
        found = connection.execute(
            "INSERT INTO done (webhook_id, outcome) VALUES (?, ?) ON CONFLICT DO NOTHING",
            (webhook_id, json.dumps(outcome)),
        )
        if found.rowcount == 0:
            return False
        # Whatever the message is to bring about goes here, through the same connection.
        print(f"{webhook_id}: {outcome['operation']} {outcome['status']}")
        return True


@contextmanager
def open_database(path: str) -> Iterator[sqlite3.Connection]:
    """One transaction: committed at the end, rolled back by an error."""
    with closing(sqlite3.connect(path, timeout=5)) as connection, connection:
        yield connection


if "WEBHOOK_SECRETS" in os.environ:
    app = create_app(os.environ["WEBHOOK_SECRETS"].split(), os.environ.get("DATABASE", "receiver.sqlite3"))
