"""Becomes a command that the kernel ends when whoever started it dies.

Run as `python -I -S guard.py SIGNAL PARENT COMMAND…`. The request is made by the process itself, after the
fork and before it becomes the command: nothing runs between fork and exec of a process with threads. It
survives the exec. The signal comes when the *thread* that forked ends, so that thread must live as long.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Ask the kernel, look whether the parent had died before that, and become the command."""
    number, parent, *command = sys.argv[1:]
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(number))
    if os.getppid() != int(parent):
        raise SystemExit(1)
    os.execvp(command[0], command)  # noqa: S606 - that is its purpose


if __name__ == "__main__":
    main()
