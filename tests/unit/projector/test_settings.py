"""The projector's settings and where its readiness comes from."""

import pytest
from pydantic import ValidationError

from services.projector.handlers import Projector
from services.projector.settings import ProjectorSettings


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONSUMA_BATCH_RECORDS", "500")
    monkeypatch.setenv("CONSUMA_MYSQL", "mysql+aiomysql://u:secret@h/consuma")
    settings = ProjectorSettings()
    assert settings.batch_records == 500
    assert "secret" not in repr(settings)


def test_a_batch_without_records_is_no_setting() -> None:
    with pytest.raises(ValidationError):
        ProjectorSettings(batch_records=0)


def test_a_projector_that_has_not_begun_is_not_ready() -> None:
    projector = Projector(ProjectorSettings())
    assert projector.readiness() == {"working": False, "partitions": True}
    assert not projector.leading
