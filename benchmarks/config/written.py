"""Settings as a person wrote them -> plain data, read by the type of the field they are for.

YAML guesses types from spelling: ``010`` is 8, ``12:30`` is 750, ``NO`` is false, and ``set #2`` is
``set``. Here the field decides. Text is exactly what was written; a number is a plain decimal one
(10, -0.5, 1e-3), so ``010`` and ``1_000`` are refused by validation under their own spelling.
"""

from __future__ import annotations

import math
import re
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic.fields import FieldInfo

from multimodal.errors import UserError
from multimodal.registry import Config, Registry
from multimodal.yaml_limits import Limited

WHOLE = re.compile(r"[-+]?(0|[1-9][0-9]{0,307})")
NUMBER = re.compile(r"[-+]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?")
SWITCHES: dict[str, bool] = {"true": True, "yes": True, "on": True}
SWITCHES |= {"false": False, "no": False, "off": False}
NOTHING = ("", "null")


class Written(str):
    """A value that was written without quotes and is not read yet. where: for error messages."""

    where = ""

    @classmethod
    def at(cls, where: str, text: str) -> Written:
        value = cls(text)
        value.where = where
        return value


class Loader(Limited, yaml.SafeLoader):
    """Safe YAML without repeated keys, whose plain values stay as they are written; with anchors,
    aliases and merge keys.

    nothing: what YAML calls null is None; False: that is Written too.
    """

    nothing = True

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        plain = isinstance(node, yaml.ScalarNode) and node.style is None
        if not plain or node.tag != self.resolve(yaml.ScalarNode, node.value, (True, False)):
            return super().construct_object(node, deep)
        is_null = node.tag == "tag:yaml.org,2002:null"
        return None if is_null and self.nothing else Written(node.value)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":  # <<: *name; what stands here counts more
                continue
            key = yaml.SafeLoader.construct_object(self, key_node, deep=True)
            line = key_node.start_mark.line + 1
            if not isinstance(key, str):
                raise UserError(f"line {line}: {key!r} cannot be a key; write a name.")
            if key in seen:
                raise UserError(f"line {line}: key {key!r} stands twice in one mapping.")
            seen.add(key)
        return {str(key): value for key, value in super().construct_mapping(node, deep).items()}


# Dates are no settings: 2026-01-31 may be a key.
Loader.yaml_implicit_resolvers = {
    first: [pair for pair in pairs if pair[0] != "tag:yaml.org,2002:timestamp"]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


class FlowLoader(Loader):
    """Of ``[a, b]`` and ``{key: value}`` on the command line."""

    nothing = False


def holds_several(text: str) -> bool:
    """It is written as a list or a mapping."""
    return text.lstrip()[:1] in ("[", "{")


def flow(text: str) -> Any:
    """``[a, b]`` or ``{key: value}``, its plain values Written.

    UserError for what YAML would drop, replace or fold: comments, anchors, tags, broken lines.
    """
    try:
        for event in yaml.parse(text, FlowLoader):
            if getattr(event, "anchor", None) or getattr(event, "tag", None):
                raise UserError("an anchor (&), alias (*) or tag (!) is no value; put it in quotes")
        node = yaml.compose(text, FlowLoader)
        rest = list(text)
        for scalar in scalars(node):
            begin, end = scalar.start_mark, scalar.end_mark
            if begin.line != end.line:
                raise UserError("a value goes over the end of a line; write it on one")
            rest[begin.index : end.index] = " " * (end.index - begin.index)
        if "#" in rest:
            raise UserError("YAML takes # for the start of a comment; put the value in quotes")
        return FlowLoader(text).get_single_data()
    except (yaml.YAMLError, RecursionError) as error:
        raise UserError("the value is not valid YAML; write [a, b] or {key: value}") from error


def scalars(node: yaml.Node | None) -> Iterator[yaml.ScalarNode]:
    """All values and keys of a YAML document."""
    if isinstance(node, yaml.ScalarNode):
        yield node
    elif isinstance(node, yaml.CollectionNode):
        for child in node.value:
            for part in child if isinstance(child, tuple) else (child,):
                yield from scalars(part)


def kinds(annotation: Any, metadata: Sequence[Any] = ()) -> list[Any]:
    """What a field may hold: types, literals, registries of which one entry is chosen."""
    for each in metadata:
        if isinstance(registry := getattr(each, "registry", None), Registry):
            return [registry]
    if get_origin(annotation) is Annotated:
        inner, *own = get_args(annotation)
        return kinds(inner, own)
    if get_origin(annotation) in (Union, types.UnionType):
        return [kind for part in get_args(annotation) for kind in kinds(part)]
    return [annotation]


def field_kinds(field: FieldInfo | None) -> list[Any]:
    """Of a field of a config; none for a key that is no field."""
    return [] if field is None else kinds(field.annotation, field.metadata)


def read(value: Any, allowed: Sequence[Any] = ()) -> Any:
    """Plain data of what was written, ``allowed`` where it stands (see ``kinds``).

    Where nothing is known of the place, plain decimal numbers, true, false and null are read.
    UserError for a list or mapping that cannot be read.
    """
    if isinstance(value, Written):
        try:
            return _read_one(str(value), allowed)
        except UserError as error:
            raise UserError(f"{value.where}{error}.") from error
    if isinstance(value, Mapping):
        inner = next((f for kind in allowed if (f := _keys(kind, value)) is not None), {})
        return {key: read(v, _below(inner, key)) for key, v in value.items()}
    if isinstance(value, list):
        return [read(v, _place(allowed, i)) for i, v in enumerate(value)]
    return value


def _read_one(text: str, allowed: Sequence[Any]) -> Any:
    options = [v for k in allowed if get_origin(k) is Literal for v in get_args(k)]
    nests = [k for k in allowed if isinstance(k, Registry) or _nests(k)]
    anything = not allowed or Any in allowed or object in allowed
    if text in NOTHING and (anything or type(None) in allowed):
        return None
    if holds_several(text) and (nests or anything):
        return read(flow(text), allowed)
    if bool in allowed and text.lower() in SWITCHES:
        return SWITCHES[text.lower()]
    if anything and text in ("true", "false"):
        return SWITCHES[text]
    whole = anything or int in allowed or any(type(o) is int for o in options)
    if WHOLE.fullmatch(text) and (whole or float in allowed):
        return int(text)
    if NUMBER.fullmatch(text) and (anything or float in allowed) and math.isfinite(float(text)):
        return float(text)
    return text


def _nests(kind: Any) -> bool:
    return _section(kind) or get_origin(kind) in (tuple, list, dict) or kind in (tuple, list, dict)


def _section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Config)


def _keys(kind: Any, value: Mapping[str, Any]) -> Any:
    """Key -> field of a section, or the one type of a mapping's values; None: of another kind."""
    if isinstance(kind, Registry):
        name = value.get("name", kind.default)
        fields = kind.config(str(name)).model_fields if name in kind.names() else {}
        return {**fields, "name": FieldInfo(annotation=str)}
    if _section(kind):
        return kind.model_fields
    return get_args(kind)[1] if get_origin(kind) is dict else None


def _below(inner: Any, key: str) -> list[Any]:
    return field_kinds(inner.get(key)) if isinstance(inner, dict) else kinds(inner)


def _place(allowed: Sequence[Any], index: int) -> list[Any]:
    """What may stand at a place of a list."""
    for kind in allowed:
        parts = get_args(kind)
        if get_origin(kind) is tuple and Ellipsis not in parts:
            return kinds(parts[index]) if index < len(parts) else []
        if get_origin(kind) in (tuple, list):
            return kinds(parts[0])
    return []
