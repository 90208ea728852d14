"""A package with one operation, ready to be installed and tested: what `consuma operations new` writes."""

import keyword
import re
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Final

__all__ = ["SkeletonError", "write_skeleton"]

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")


class SkeletonError(ValueError):
    """Nothing was written; the message says why."""


def write_skeleton(name: str, parent: Path) -> list[Path]:
    """Write the package `consuma-operation-<name>` below `parent`; returns its files.

    Raises:
        SkeletonError: the name is none for an operation, or the folder exists.
        OSError: the folder cannot be written.
    """
    if not _NAME.fullmatch(name) or keyword.iskeyword(name):
        raise SkeletonError(
            f"{name!r} is no name of an operation: lower-case letters, digits and underscores, at most 64, "
            "and no keyword of Python"
        )
    folder = parent / f"consuma-operation-{_dashed(name)}"
    if folder.exists():
        raise SkeletonError(f"{folder} exists already; choose another name, or remove it")
    contents = {folder / path: _render(template, name) for path, template in _files(name).items()}
    for path, text in contents.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return list(contents)


def _files(name: str) -> dict[str, str]:
    return {
        "pyproject.toml": "pyproject.toml.tmpl",
        "README.md": "README.md.tmpl",
        f"{_module(name)}.py": "module.py.tmpl",
        f"tests/test_{name}.py": "test_module.py.tmpl",
    }


def _render(template: str, name: str) -> str:
    text = files("infra.cli").joinpath("templates", "operation", template).read_text(encoding="utf-8")
    model = "".join(part.capitalize() for part in name.split("_"))
    return Template(text).substitute(
        name=name, dashed=_dashed(name), module=_module(name), constant=name.upper(), model=model
    )


def _module(name: str) -> str:
    """A top-level module that collides with nothing."""
    return f"consuma_operation_{name}"


def _dashed(name: str) -> str:
    return name.replace("_", "-")
