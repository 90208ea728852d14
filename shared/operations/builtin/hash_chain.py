"""Iterated SHA-256: a proof of work that anybody can check, and the cheapest call there is."""

import hashlib

from pydantic import Field

from shared.operations.model import Input, Operation

__all__ = ["HASH_CHAIN"]


class HashChain(Input):
    """The seed text and how often it is hashed."""

    seed: str = Field(max_length=100_000)
    rounds: int = Field(default=1, ge=1, le=50_000_000)


def _run(task: HashChain) -> dict[str, object]:
    digest = task.seed.encode()
    for _ in range(task.rounds):
        digest = hashlib.sha256(digest).digest()
    return {"digest": digest.hex(), "rounds": task.rounds}


HASH_CHAIN = Operation(
    name="hash_chain",
    description="SHA-256 of a text, applied again to its own digest as often as asked.",
    input_model=HashChain,
    run=_run,
    reusable=True,
    cheap_check=True,
    example={"seed": "consuma", "rounds": 1000},
)
