"""Destinations that receivers want no more callbacks at: one submitter's at one URL."""

from collections.abc import Callable
from typing import Final

import structlog

from services.callback import http_metrics
from services.callback.attempts import disabling_reason
from services.callback.call import Answer, CallFailure
from services.callback.callers import submitter_of
from services.callback.ports import Disabled
from shared.destinations.changes import append_change, disable
from shared.destinations.directory import DestinationDirectory
from shared.domain.callbacks import Delivery
from shared.domain.destinations import disabled_message, identify
from shared.kafka.producer import LogError, SupervisedProducer

__all__ = ["Disabling"]

log = structlog.get_logger()

SOURCE: Final = "/consuma/callback"


class Disabling:
    """Heeds receivers, and knows what was disabled by them or by a person.

    Args:
        directory: the disabled destinations.
        producer: appends what receivers decide.
        clock: seconds since the epoch.
    """

    def __init__(
        self, directory: DestinationDirectory, producer: SupervisedProducer, clock: Callable[[], float]
    ) -> None:
        self.directory = directory
        self._producer = producer
        self._clock = clock

    def disabled(self, destination: str) -> Disabled | None:
        """Since when `destination` is disabled, if it is."""
        disabled = self.directory.disabled(destination)
        return None if disabled is None else Disabled(message=disabled_message(disabled))

    async def heed(self, delivery: Delivery, outcome: Answer | CallFailure) -> None:
        """Disable the destination of `delivery` if its receiver wants that, and it is not yet.

        When the log does not take it now, nothing changes: the next delivery will be answered alike.
        """
        reason = disabling_reason(outcome)
        if reason is None:
            return
        destination, shown = identify(submitter_of(delivery), delivery.url)
        if self.directory.disabled(destination) is not None:
            return
        event = disable(
            destination,
            submitter=submitter_of(delivery),
            url=shown,
            reason=reason,
            by="receiver",
            now_ms=int(self._clock() * 1000),
        )
        try:
            await append_change(self._producer, event, source=SOURCE)
        except LogError as error:
            log.warning("destination.not_disabled", destination=destination, url=shown, error=str(error))
            return
        self.directory.apply(event)
        http_metrics.DISABLED.inc()
        log.warning("destination.disabled", destination=destination, url=shown, reason=reason)
