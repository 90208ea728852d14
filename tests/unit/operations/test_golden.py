"""The results of operations never change: in any process, under any hash seed, on any Python."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.unit.operations.compute_golden import digest, result
from tests.unit.operations.golden_cases import CASES

ROOT: Final = Path(__file__).parents[3]
GOLDEN: Final[dict[str, str]] = json.loads((Path(__file__).parent / "golden.json").read_text())


@pytest.mark.parametrize("case", CASES)
def test_the_result_is_the_one_kept(case: str) -> None:
    assert digest(case) == GOLDEN[case], result(case)[:500]


def test_every_kept_result_is_still_asked_for() -> None:
    assert set(GOLDEN) == set(CASES)


@pytest.mark.parametrize("seed", ["0", "1", "4294967295"])
def test_results_do_not_depend_on_the_hash_seed(seed: str) -> None:
    process = subprocess.run(
        [sys.executable, "-m", "tests.unit.operations.compute_golden"],
        env=os.environ | {"PYTHONHASHSEED": seed},
        cwd=ROOT,
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert json.loads(process.stdout) == GOLDEN
