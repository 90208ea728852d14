"""What an Idempotency-Key stands for, and what is remembered of it."""

import pytest

from services.ingest.idempotency import HEADER, RecentSubmissions, Remembered, check_same, request_id_of
from services.ingest.problems import IdempotencyKeyReused, InvalidHeader
from shared.domain.types import Mode, RequestId
from tests.unit.ingest.support import request_of

KNOWN = Remembered(Mode.SYNC, "digest", 1)


def test_a_key_is_the_same_id_for_the_same_caller_only() -> None:
    request = request_of(headers={HEADER: "order-1"})
    assert request_id_of(request, "ada") == request_id_of(request, "ada")
    assert request_id_of(request, "ada") != request_id_of(request, "bob")
    assert request_id_of(request_of(), "ada") is None


@pytest.mark.parametrize("key", ["", "x" * 256, "tab\there"])
def test_what_cannot_be_a_key(key: str) -> None:
    with pytest.raises(InvalidHeader):
        request_id_of(request_of(headers={HEADER: key}), "ada")


def test_the_oldest_is_forgotten_first_and_the_first_one_wins() -> None:
    recent = RecentSubmissions(2)
    first, second, third = (RequestId(name) for name in "abc")
    recent.remember(first, KNOWN)
    recent.remember(first, Remembered(Mode.ASYNC, "other", 2))
    assert recent.get(first) == KNOWN
    recent.remember(second, KNOWN)
    recent.remember(third, KNOWN)
    assert recent.get(first) is None
    assert recent.get(second) == recent.get(third) == KNOWN


def test_a_limit_of_none_remembers_nothing() -> None:
    recent = RecentSubmissions(0)
    recent.remember(RequestId("a"), KNOWN)
    assert recent.get(RequestId("a")) is None


@pytest.mark.parametrize(("mode", "digest"), [(Mode.ASYNC, "digest"), (Mode.SYNC, "other")])
def test_a_repetition_asks_for_the_same(mode: Mode, digest: str) -> None:
    check_same(KNOWN, Mode.SYNC, "digest")
    with pytest.raises(IdempotencyKeyReused):
        check_same(KNOWN, mode, digest)
