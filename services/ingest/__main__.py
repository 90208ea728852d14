"""`python -m services.ingest`: the HTTP API."""

import sys

from services.ingest.server import PortInUseError, listen, serve
from services.ingest.settings import IngestSettings
from services.ingest.workers import inherited_listener, supervise
from shared.service import run_service


def main() -> int:
    """Run until told to stop; returns the exit code."""
    settings = IngestSettings()
    inherited = inherited_listener()
    if inherited is not None:
        return run_service(settings, lambda stop: serve(settings, inherited, stop))
    try:
        listener = listen(settings)
    except PortInUseError as error:
        print(f"consuma ingest: {error}", file=sys.stderr)  # noqa: T201 - before there is a log
        return 1
    if settings.workers == 1:
        return run_service(settings, lambda stop: serve(settings, listener, stop))
    return run_service(settings, lambda stop: supervise(settings, listener, stop))


if __name__ == "__main__":
    raise SystemExit(main())
