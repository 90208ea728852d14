"""Whether cancellations are being heard."""

from types import SimpleNamespace
from typing import cast

from services.compute.cancellations import Cancellations
from services.compute.settings import ComputeSettings
from shared.kafka.reader import Follower


async def test_a_process_that_hears_nothing_is_not_caught_up() -> None:
    """Its client has died; the new one goes on where that was."""
    cancellations = Cancellations(ComputeSettings(), lambda _: None)
    cancellations._caught_up.set()
    states = [cancellations.caught_up]
    for live in (True, False):
        cancellations._follower = cast("Follower", SimpleNamespace(live=live))
        states.append(cancellations.caught_up)
    assert states == [False, True, False]
    await cancellations.until_caught_up()
