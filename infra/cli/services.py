"""`consuma ingest|compute|callback`: one process of a service, until told to stop."""

__all__ = ["callback", "compute", "ingest"]


def ingest() -> int:
    """Serve the HTTP API."""
    from services.ingest.__main__ import main

    return main()


def compute() -> int:
    """Consume requests and compute them in worker processes."""
    from services.compute.app import create_app
    from services.compute.settings import ComputeSettings
    from shared.service import run_service

    settings = ComputeSettings()
    return run_service(settings, create_app(settings))


def callback() -> int:
    """Make the callbacks that are due."""
    from services.callback.app import create_app
    from services.callback.settings import CallbackSettings
    from shared.service import run_service

    settings = CallbackSettings()
    return run_service(settings, create_app(settings))
