"""Descriptors: a service that talks to thousands at a time needs more than a session gets by default."""

import resource
from typing import Final

import structlog

__all__ = ["open_files", "raise_open_files"]

log = structlog.get_logger()

ENOUGH: Final = 65_536
"""More than any service here opens. A far larger limit makes some libraries slow, which walk through all."""


def open_files() -> int:
    """How many descriptors this process may have, at most `ENOUGH`."""
    return _at_most_enough(resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def raise_open_files() -> int:
    """Raise that limit as far as the system allows, and say what it is now.

    systemd and many shells set 1,024 with a hard limit far above, for programs that use `select`.
    """
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    before, wanted = open_files(), _at_most_enough(hard)
    if before < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        log.info("service.open_files", limit=wanted, before=before)
    return open_files()


def _at_most_enough(limit: int) -> int:
    return ENOUGH if limit == resource.RLIM_INFINITY else min(limit, ENOUGH)
