"""`python -m services.compute`."""

from services.compute.app import create_app
from services.compute.settings import ComputeSettings
from shared.service import run_service

if __name__ == "__main__":
    settings = ComputeSettings()
    raise SystemExit(run_service(settings, create_app(settings)))
