"""JSON Schemas of every event's data, and of what submitters send, from the code that reads and writes them.

`python -m shared.events.schemas` writes them and the AsyncAPI document below `docs/`; a test fails when what
is committed there differs.
"""

import inspect
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec

from shared.events.codec import EVENT_TYPES
from shared.events.request_data import MAX_NAME, MAX_REFERENCE, MAX_TIMEOUT_S, RequestData
from shared.events.submission import SUBMITTED_TYPE
from shared.events.wire import wire_of

__all__ = ["DIALECT", "components", "documents", "event_schemas", "schema_name"]

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
DOCS: Final = Path(__file__).parents[2] / "docs"

Schema = Mapping[str, Any]

_REQUEST_FIELDS: Final[Mapping[str, msgspec.Meta]] = {
    "operation": msgspec.Meta(
        min_length=1, max_length=MAX_NAME, description="Name of an operation of this installation."
    ),
    "input": msgspec.Meta(description="What the operation's input schema asks for."),
    "callback_url": msgspec.Meta(
        description="http or https URL that receives the signed outcome; only in topic `requests`."
    ),
    "timeout": msgspec.Meta(gt=0, le=MAX_TIMEOUT_S, description="Longest running time, in seconds."),
    "expires_at": msgspec.Meta(
        description="RFC 3339 time, with an offset, after which it is not started.",
        extra_json_schema={"format": "date-time"},
    ),
    "client_reference": msgspec.Meta(
        max_length=MAX_REFERENCE, description="The submitter's own name for the request."
    ),
    "source": msgspec.Meta(
        max_length=MAX_NAME, description="Who submits; only read where there is no CloudEvents source."
    ),
    "id": msgspec.Meta(
        max_length=MAX_REFERENCE,
        description="Makes repeating safe: the same source and id are one request. Only read where there is "
        "no CloudEvents id.",
    ),
    "digest": msgspec.Meta(description="Written by consuma's own API; leave it out."),
}


def schema_name(event_type: str) -> str:
    """Name of the schema of an event type, without a character that a reference would have to escape."""
    return event_type.removeprefix("consuma.")


def components(template: str) -> dict[str, Schema]:
    """Schemas by name: of each event's data under `schema_name`, of what they consist of under its own."""
    structs = {type_: wire_of(event).struct for type_, event in EVENT_TYPES.items()}
    request = _request_struct()
    _, found = msgspec.json.schema_components([*structs.values(), request], ref_template=template)
    named = {structs[type_].__name__: type_ for type_ in structs} | {request.__name__: SUBMITTED_TYPE}
    renamed = json.dumps(found)
    for name, type_ in named.items():
        renamed = renamed.replace(
            f'"{template.format(name=name)}"', f'"{template.format(name=schema_name(type_))}"'
        )
    return {
        schema_name(named[name]) if name in named else name: _described(named.get(name), schema)
        for name, schema in json.loads(renamed).items()
    }


def event_schemas() -> dict[str, Schema]:
    """A JSON Schema of its own for each event type."""
    return {type_: _standalone(type_) for type_ in (SUBMITTED_TYPE, *EVENT_TYPES)}


def documents() -> dict[str, str]:
    """Every generated file by its path below `docs/`."""
    from shared.events.asyncapi import asyncapi_yaml

    files = {
        f"schemas/{type_}.json": json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
        for type_, schema in event_schemas().items()
    }
    return files | {"asyncapi.yaml": asyncapi_yaml()}


def _standalone(type_: str) -> Schema:
    found = components("#/$defs/{name}")
    schema = found[schema_name(type_)]
    needed = _needed(schema, found)
    definitions = {"$defs": {name: found[name] for name in sorted(needed)}} if needed else {}
    return {"$schema": DIALECT, "$id": f"urn:consuma:schema:{type_}", **schema, **definitions}


def _needed(schema: object, found: Mapping[str, Schema]) -> set[str]:
    """Names of all that a schema refers to, directly or not."""
    names = {name for name in found if f'"#/$defs/{name}"' in json.dumps(schema)}
    return names.union(*(_needed(found[name], found) for name in names))


def _described(type_: str | None, schema: Schema) -> Schema:
    if type_ is None:
        return {**schema, "description": " ".join(schema.get("description", "").split())}
    event = EVENT_TYPES.get(type_, RequestData)
    return {**schema, "title": type_, "description": " ".join((inspect.getdoc(event) or "").split())}


def _request_struct() -> type[msgspec.Struct]:
    """`RequestData` with what is known of its fields; raw JSON has no default that could be shown."""
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = []
    for each in msgspec.structs.fields(RequestData):
        if each.name == "input":
            fields.append((each.name, Annotated[dict[str, Any], _REQUEST_FIELDS["input"]], {}))
        elif each.required:
            fields.append((each.name, Annotated[each.type, _REQUEST_FIELDS[each.name]]))
        else:
            fields.append((each.name, _optional(each.type, _REQUEST_FIELDS[each.name]), each.default))
    return msgspec.defstruct("RequestData", fields, kw_only=True)


def _optional(hint: Any, meta: msgspec.Meta) -> Any:  # noqa: ANN401 - type expressions
    """`X | None` with the constraints on X, where they belong."""
    [inner] = [each for each in hint.__args__ if each is not type(None)]
    return Annotated[inner, meta] | None


def main() -> None:
    """Write every generated file; the ones that are not generated any more are deleted."""
    files = documents()
    folder = DOCS / "schemas"
    folder.mkdir(parents=True, exist_ok=True)
    for stale in {each.name for each in folder.glob("*.json")} - {Path(name).name for name in files}:
        (folder / stale).unlink()
    for name, text in files.items():
        (DOCS / name).write_text(text, encoding="utf-8")
    sys.stdout.write(f"wrote {len(files)} files below {DOCS.name}/\n")


if __name__ == "__main__":
    main()
