"""`python -m services.projector`."""

from services.projector.app import create_app
from services.projector.settings import ProjectorSettings
from shared.service import run_service

if __name__ == "__main__":
    settings = ProjectorSettings()
    raise SystemExit(run_service(settings, create_app(settings)))
