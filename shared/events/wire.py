"""Wire structures derived from dataclasses: one definition of every event, JSON inside passed as bytes."""

from collections.abc import Callable
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, Final, cast, get_type_hints

import msgspec

from shared.domain.types import JsonBytes, JsonText

__all__ = ["Wire", "wire_of"]

Convert = Callable[[object], object]


class Wire:
    """The wire structure of one dataclass: the same fields, with JSON text as raw bytes."""

    def __init__(self, event_class: type[object]) -> None:
        hints = get_type_hints(event_class)
        specs = fields(cast("Any", event_class))
        mapped = {spec.name: _map(hints[spec.name]) for spec in specs}
        self.struct = msgspec.defstruct(
            event_class.__name__,
            [_field(spec, mapped[spec.name][0]) for spec in specs],
            omit_defaults=True,
            kw_only=True,
            frozen=True,
        )
        self.decoder = msgspec.json.Decoder(self.struct)
        self._event_class = event_class
        self._names = tuple(mapped)
        self._inward = tuple((name, inward) for name, (_, inward, _) in mapped.items() if inward)
        self._outward = tuple((name, outward) for name, (_, _, outward) in mapped.items() if outward)

    def to_wire(self, event: object) -> msgspec.Struct:
        """`event`, an instance of the dataclass, ready to be encoded."""
        values = {name: getattr(event, name) for name in self._names}
        for name, convert in self._outward:
            values[name] = convert(values[name])
        return self.struct(**values)

    def from_wire(self, wire: object) -> object:
        """The instance of the dataclass that a decoded structure stands for."""
        values = {name: getattr(wire, name) for name in self._names}
        for name, convert in self._inward:
            values[name] = convert(values[name])
        return self._event_class(**values)


_wires: Final[dict[object, Wire]] = {}


def wire_of(event_class: type[object]) -> Wire:
    """The wire structure of a dataclass, derived once."""
    wire = _wires.get(event_class)
    if wire is None:
        wire = _wires[event_class] = Wire(event_class)
    return wire


def _field(spec: Field[object], wire_type: Any) -> tuple[str, Any] | tuple[str, Any, Any]:  # noqa: ANN401 - a type
    if spec.default is MISSING:
        return spec.name, wire_type
    return spec.name, wire_type, spec.default


def _map(hint: Any) -> tuple[Any, Convert | None, Convert | None]:  # noqa: ANN401 - a type expression
    """Wire type of a field, with its conversions from the wire and to it."""
    if hint is JsonText:
        return msgspec.Raw, _raw_to_text, _text_to_raw
    if hint is JsonBytes:
        return msgspec.Raw, _raw_to_view, _view_to_raw
    if is_dataclass(hint) and JsonText in get_type_hints(hint).values():
        nested = wire_of(cast("type[object]", hint))
        return nested.struct, nested.from_wire, nested.to_wire
    return hint, None, None


def _raw_to_text(raw: object) -> JsonText:
    return JsonText(bytes(cast("msgspec.Raw", raw)).decode())


def _text_to_raw(text: object) -> msgspec.Raw:
    return msgspec.Raw(cast("str", text).encode())


def _raw_to_view(raw: object) -> JsonBytes:
    return JsonBytes(memoryview(cast("msgspec.Raw", raw)))


def _view_to_raw(view: object) -> msgspec.Raw:
    return msgspec.Raw(cast("memoryview", view))
