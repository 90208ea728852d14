"""Ports of this machine: free ones, and who holds one that is not."""

import random
import socket
from pathlib import Path
from typing import Final

import psutil

__all__ = ["free_port", "holder", "is_free"]

LOWEST: Final = 15_000
BELOW_EPHEMERAL: Final = 32_768
"""The kernel gives ports from here on to outgoing connections, at any moment."""

TRIES: Final = 200


def free_port() -> int:
    """A loopback port that nobody listens on and no outgoing connection will take."""
    for _ in range(TRIES):
        port = random.randrange(LOWEST, _lowest_ephemeral())  # noqa: S311 - guards nothing
        if is_free(port):
            return port
    raise OSError("no free port was found")


def is_free(port: int) -> bool:
    """Whether somebody could listen on `port` of the loopback address now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def holder(port: int) -> str:
    """Who listens on `port`, in words."""
    try:
        connections = psutil.net_connections("tcp")
    except psutil.AccessDenied:
        return "another process"
    for each in connections:
        if each.status == psutil.CONN_LISTEN and each.laddr and each.laddr[1] == port and each.pid:
            return f"{_name(each.pid)} (pid {each.pid})"
    return "another process"


def _name(pid: int) -> str:
    try:
        return psutil.Process(pid).name()
    except psutil.Error:
        return "a process"


def _lowest_ephemeral() -> int:
    try:
        lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError):
        lowest = BELOW_EPHEMERAL
    return lowest if lowest > LOWEST + TRIES else 65_536
