"""Answers of a coordinator that does not know yet."""

from typing import cast

from aiokafka import OffsetAndMetadata, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError

from shared.kafka.positions import fetch_committed

WANTED = [TopicPartition("results", number) for number in range(2)]
POSITIONS = {each: OffsetAndMetadata(7, "") for each in WANTED}


class LoadingCoordinator:
    """Answers as the client library passes it on: an error, then a refusal that looks like no positions."""

    def __init__(self) -> None:
        self.answers: list[dict[TopicPartition, OffsetAndMetadata] | Exception] = [
            GroupCoordinatorNotAvailableError(),
            {},
            POSITIONS,
        ]

    async def list_consumer_group_offsets(
        self, group: str, *, partitions: list[TopicPartition]
    ) -> dict[TopicPartition, OffsetAndMetadata]:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


async def test_positions_are_not_taken_for_missing_while_they_are_loaded() -> None:
    """A broker that had just been started again was said to have lost every group's positions."""
    admin = cast("AIOKafkaAdminClient", LoadingCoordinator())
    assert await fetch_committed(admin, "callback", WANTED) == POSITIONS
