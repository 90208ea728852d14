"""The secret that callbacks are signed with while nobody has given one."""

import base64
import os
import secrets
from pathlib import Path
from typing import Final

__all__ = ["SECRET_NAME", "development_secret"]

SECRET_NAME: Final = "webhook-secret"  # noqa: S105 - a file's name
SECRET_BYTES: Final = 32


def development_secret(data_dir: Path) -> str:
    """The secret of this data directory, made when first asked for; only its owner can read the file."""
    path = data_dir / SECRET_NAME
    if not path.exists():
        secret = "whsec_" + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()
        new = path.with_name(f"{path.name}.new")
        new.touch(mode=0o600)
        new.write_text(secret + "\n")
        os.replace(new, path)
    return path.read_text().strip()
