"""`python -m services.callback`."""

from services.callback.app import create_app
from services.callback.settings import CallbackSettings
from shared.service import run_service

if __name__ == "__main__":
    settings = CallbackSettings()
    raise SystemExit(run_service(settings, create_app(settings)))
