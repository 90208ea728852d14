"""`endpoints.json` in the data directory: for scripts, where everything is, once it is."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

__all__ = ["ENDPOINTS_NAME", "remove_endpoints", "write_endpoints"]

ENDPOINTS_NAME: Final = "endpoints.json"


def write_endpoints(data_dir: Path, content: Mapping[str, object]) -> None:
    """Replace the file as a whole; only its owner can read it, as the database's URL may hold a password."""
    path = data_dir / ENDPOINTS_NAME
    new = path.with_name(f"{path.name}.new")
    new.touch(mode=0o600)
    new.write_text(json.dumps(content, indent=2) + "\n")
    os.replace(new, path)


def remove_endpoints(data_dir: Path) -> None:
    """Nothing is to be reached there any more."""
    (data_dir / ENDPOINTS_NAME).unlink(missing_ok=True)
