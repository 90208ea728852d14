"""A slot server whose slots' first fork for a task stops itself before it begins; later ones do not."""

import os
import signal
import sys
from pathlib import Path

from services.compute import slot_server, slot_worker
from services.compute.slot_isolation import signal_when_parent_dies


def _stop_first(number: signal.Signals, parent: int) -> None:
    flag = Path(os.environ["STOPPED_FORK"])
    if parent == os.getppid() == os.getpgrp() and not flag.exists():
        flag.touch()
        os.kill(os.getpid(), signal.SIGSTOP)
    signal_when_parent_dies(number, parent)


slot_worker.signal_when_parent_dies = _stop_first  # type: ignore[attr-defined]

if __name__ == "__main__":
    raise SystemExit(slot_server.main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
