"""Print the digest of every golden case, as computed by this interpreter: run by the tests in others."""

import hashlib
import json
import sys

from shared.operations.registry import load_registry
from shared.operations.results import encode_result
from tests.unit.operations.golden_cases import CASES

__all__ = ["digest", "result"]


def result(case: str) -> bytes:
    """The encoded result of a golden case."""
    name, data = CASES[case]
    operation = load_registry().get(name)
    task = load_registry().parse(name, json.dumps(data).encode())
    return encode_result(operation.run(task), operation.limits.max_result_bytes)


def digest(case: str) -> str:
    """What is kept of a result."""
    return hashlib.sha256(result(case)).hexdigest()


if __name__ == "__main__":
    json.dump({case: digest(case) for case in CASES}, sys.stdout, indent=2, sort_keys=True)
    sys.stdout.write("\n")
