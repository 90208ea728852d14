"""Schedules come from settings, and one that does not fit what is kept is refused with what to do."""

import pytest
from pydantic import ValidationError

from services.callback.settings import CallbackSettings
from shared.domain.retry_policy import DEFAULT_DEFERRALS_MS, DEFAULT_LADDER_MS, ErrorClass

HOUR_MS = 3_600_000


def test_the_defaults_are_the_domain_s() -> None:
    settings = CallbackSettings()
    assert settings.retry_policy().ladder_ms == DEFAULT_LADDER_MS
    assert settings.deferral_policy().ladder_ms == DEFAULT_DEFERRALS_MS
    assert settings.worst_case_ms() < settings.retention_ms


def test_schedules_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONSUMA_RETRY_SCHEDULE", "1s,5s")
    monkeypatch.setenv("CONSUMA_RETRY_SCHEDULES", '{"dns": "30s,10m", "tls": ""}')
    policy = CallbackSettings().retry_policy()
    assert policy.ladder_ms == (1_000, 5_000)
    assert policy.ladder(ErrorClass.DNS) == (30_000, 600_000)
    assert policy.ladder(ErrorClass.TLS) == ()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"callback_window": 100}, "CONSUMA_CALLBACK_QUEUE may be 25 at most"),
        ({"callback_queue_bytes": 5 * 1024 * 1024}, "_BYTES 4194304, a quarter"),
        ({"retry_schedule": "1s,x"}, "'x' is no delay"),
        ({"retry_schedules": {"dns": "1"}}, "'1' is no delay"),
        ({"retry_schedules": {"no_such_class": "1s"}}, "no_such_class"),
        ({"deferral_schedule": ""}, "deferral schedule is empty"),
        ({"retry_schedule": "1h,48h,1d", "retention_ms": 24 * HOUR_MS}, "shorten CONSUMA_RETRY_SCHEDULE"),
        ({"deferral_limit_ms": 30 * 24 * HOUR_MS}, "CONSUMA_DEFERRAL_LIMIT_MS"),
        ({"retry_after_cap_ms": 60 * 24 * HOUR_MS}, "CONSUMA_RETRY_AFTER_CAP_MS"),
    ],
)
def test_what_cannot_work_is_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        CallbackSettings(**fields)  # type: ignore[arg-type]
