"""A slot server that cannot kill what leaves the group of its slot, as if that ran as another user."""

import sys

from services.compute import slot_server


def _refuse(pid: int) -> None:
    """Kill nobody."""


slot_server.kill = _refuse  # type: ignore[attr-defined]
slot_server.SWEEP_LIMIT_S = 1.0  # type: ignore[misc]

if __name__ == "__main__":
    raise SystemExit(slot_server.main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
