"""The services that `consuma up` runs, as data, and how one of them is started."""

import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from infra.local.parts import Launch, answers_http
from infra.local.ports import free_port

__all__ = ["SERVICES", "ServicePart", "ServiceSpec"]

STOP_MARGIN_S: Final = 5.0
"""Beyond the drain timeout."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSpec:
    """One service: `python -m services.<name>`, so many times.

    A service that `listens` has its health on the API's port, the others on one of their own.
    """

    name: str
    instances: int = 1
    listens: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)


SERVICES: Final = (
    ServiceSpec(name="ingest", listens=True),
    ServiceSpec(name="compute", instances=4, environment={"CONSUMA_SLOTS": "2"}),
    # A receiver on this machine is what callbacks are tried with.
    ServiceSpec(name="callback", environment={"CONSUMA_CALLBACK_ALLOW": "127.0.0.0/8,::1/128"}),
    ServiceSpec(name="projector"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServicePart:
    """One instance of a service."""

    spec: ServiceSpec
    number: int
    listen_port: int
    drain_timeout_ms: int
    environment: Mapping[str, str]
    death_signal: signal.Signals = signal.SIGKILL
    """Nothing is lost by it, and nobody is left to wait for a drain."""

    @property
    def name(self) -> str:
        """What the instance is called everywhere: in groups, logs and files."""
        return f"{self.spec.name}-{self.number}"

    @property
    def stop_s(self) -> float:
        """Its drain, and a little more."""
        return self.drain_timeout_ms / 1000 + STOP_MARGIN_S

    def launch(self) -> Launch:
        """A fresh health port each time: one that somebody has taken meanwhile heals with the restart."""
        port = self.listen_port if self.spec.listens else free_port()
        own = {
            "CONSUMA_INSTANCE": self.name,
            "CONSUMA_DRAIN_TIMEOUT_MS": str(self.drain_timeout_ms),
            "CONSUMA_LOG_FORMAT": "json",
            ("CONSUMA_LISTEN_PORT" if self.spec.listens else "CONSUMA_HEALTH_PORT"): str(port),
        }
        return Launch(
            # -P: what lies in the working directory must not stand in for an installed module.
            (sys.executable, "-P", "-m", f"services.{self.spec.name}"),
            lambda: answers_http(port, "/health/ready"),
            {**self.spec.environment, **self.environment, **own},
            f"http://127.0.0.1:{port}",
        )
