"""`consuma operations`: what can be asked for, and the beginning of something new."""

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter
from rich.table import Table

from infra.cli.api import DEFAULT_URL, REFUSED, Api, Output, Url, as_table, console, fail, print_json
from infra.cli.operation_skeleton import SkeletonError, write_skeleton

__all__ = ["operations"]

operations = App(name="operations", help="List the operations, show one, or begin a new one.")


@operations.default
@operations.command
def show(
    name: Annotated[str | None, Parameter(help="Show this one with its input's schema.")] = None,
    /,
    *,
    url: Url = DEFAULT_URL,
    output: Output = None,
) -> None:
    """List the operations that the API offers, or show one."""
    items = Api("operations", url).get("/v1/operations")["items"]
    if name is None:
        _list(items) if as_table(output) else print_json(items)
        return
    found = next((each for each in items if each["name"] == name), None)
    if found is None:
        known = ", ".join(each["name"] for each in items)
        fail("operations", f"there is no operation {name!r}; there are {known}", REFUSED)
    _show(found) if as_table(output) else print_json(found)


@operations.command
def new(
    name: Annotated[str, Parameter(help="Its name: lower-case letters, digits and underscores.")],
    /,
    *,
    directory: Annotated[Path, Parameter(help="Where its folder is made.")] = Path(),
) -> None:
    """Write a package with a working operation and its test."""
    try:
        written = write_skeleton(name, directory)
    except (SkeletonError, OSError) as error:
        fail("operations new", str(error), REFUSED)
    for path in written:
        print(path)
    folder, python = shlex.quote(str(written[0].parent)), shlex.quote(sys.executable)
    print(f"next: cd {folder} && {python} -m pip install -e '.[dev]' && {python} -m pytest", file=sys.stderr)


def _list(items: list[dict[str, Any]]) -> None:
    table = Table("name", "what it does", "time limit", "example")
    for each in items:
        limits = each["limits"]
        limit = f"{limits['default_timeout_ms'] / 1000:g} s, at most {limits['max_timeout_ms'] / 1000:g} s"
        table.add_row(each["name"], each["description"], limit, json.dumps(each["example"]))
    console().print(table, markup=False)


def _show(found: dict[str, Any]) -> None:
    limits = found["limits"]
    print(f"{found['name']} (version {found['version']}): {found['description']}\n")
    table = Table("field of the input", "type", "limits")
    required = found["input_schema"].get("required", [])
    for name, schema in found["input_schema"].get("properties", {}).items():
        rules = {key: value for key, value in schema.items() if key not in ("type", "title", "description")}
        shown = ", ".join(f"{key} {json.dumps(value)}" for key, value in rules.items())
        table.add_row(name + (" *" if name in required else ""), str(schema.get("type", "any")), shown)
    console().print(table, markup=False)
    print(
        f"* required. Time limit {limits['default_timeout_ms'] / 1000:g} s unless asked for, at most "
        f"{limits['max_timeout_ms'] / 1000:g} s; memory {limits['memory_bytes'] // 2**20} MiB."
    )
    print(f"\nconsuma submit sync {found['name']} '{json.dumps(found['example'])}'")
