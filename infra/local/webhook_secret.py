"""The secret that callbacks are signed with while nobody has given one."""

import base64
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Final

__all__ = ["SECRET_NAME", "development_secret", "kept", "random_base64"]

SECRET_NAME: Final = "webhook-secret"  # noqa: S105 - a file's name
SECRET_BYTES: Final = 32


def development_secret(data_dir: Path) -> str:
    """The secret of this data directory, made when first asked for; only its owner can read the file."""
    return kept(data_dir / SECRET_NAME, lambda: f"whsec_{random_base64()}")


def kept(path: Path, make: Callable[[], str]) -> str:
    """The text in a file that only its owner can read; what `make` returns, where there is no file yet."""
    if not path.exists():
        new = path.with_name(f"{path.name}.new")
        new.touch(mode=0o600)
        with new.open("w") as file:
            file.write(make() + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, path)
    return path.read_text().strip()


def random_base64() -> str:
    """A new secret."""
    return base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()
