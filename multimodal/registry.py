"""Names that a YAML file may use -> typed config -> object.

Every choosable thing registers itself where it is defined, by one decorator on its config::

    @LEARNERS.register("replay")
    class ReplayConfig(Config):
        memory_size: int = 200

        def build(self, context: LearnerContext) -> Learner: ...

A registry imports the modules of its packages when it is first asked for a name, so importing
Medley costs nothing. Code outside the tree registers in the same way: name its module in an entry
point of the group ``medley.plugins`` or in the environment variable ``MEDLEY_PLUGINS`` (module
names separated by commas), or import it before calling Medley from Python.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import pkgutil
import sys
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    GetJsonSchemaHandler,
    model_validator,
)
from pydantic_core import PydanticCustomError, core_schema

from multimodal.errors import UserError, did_you_mean

MOST_WHOLE = 10**9  # of a setting: more recordings or tokens than anybody has
PLUGIN_GROUP = "medley.plugins"
PLUGIN_VARIABLE = "MEDLEY_PLUGINS"
OWN = ("multimodal", "continual", "benchmarks")


def _each_once(names: tuple[str, ...]) -> tuple[str, ...]:
    again = sorted({name for name in names if names.count(name) > 1})
    if again:
        raise ValueError(f"{', '.join(map(repr, again))} is listed more than once; name each once")
    return names


# Lists of classes or columns: one that comes twice is a slip for another.
Distinct = Annotated[tuple[str, ...], AfterValidator(_each_once)]


class Config(BaseModel):
    """Base of every config: immutable, strictly typed, no unknown keys.

    Subclasses that are registered have ``registered_name`` and a ``build(...)`` method whose
    arguments each registry's package documents.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    registered_name: ClassVar[str] = ""

    @model_validator(mode="after")
    def _numbers_that_can_be_meant(self) -> Self:
        for name in type(self).model_fields:
            value = getattr(self, name)
            if type(value) is int and "seed" not in name and abs(value) > MOST_WHOLE:
                raise ValueError(f"{name}={value:,} is too large; at most {MOST_WHOLE:,}")
        return self

    @classmethod
    def parse(cls, data: object) -> Self:
        """Validate plain data (as read from YAML); tuples may be written as lists.

        Raises pydantic's ``ValidationError`` with every problem at once.
        """
        return cls.model_validate_json(json.dumps(data), strict=True)

    def dump(self) -> dict[str, Any]:
        """Plain data that ``parse`` (or the registry, if registered) reads back."""
        fields = self.model_dump(mode="json")
        return {"name": self.registered_name, **fields} if self.registered_name else fields

    @property
    def row_name(self) -> str:
        """What a row of a table that is about it is called."""
        return self.registered_name

    @property
    def named(self) -> tuple[str, ...]:
        """The settings that ``row_name`` tells; dotted where one is within another."""
        return ()


def _place(config: type[Config]) -> tuple[str, str]:
    return config.__module__, config.__qualname__


_REGISTRIES: list[Registry] = []
ConfigType = TypeVar("ConfigType", bound=type[Config])


class Registry:
    """One kind of choosable thing, e.g. "learner".

    ``packages``: packages whose direct modules hold the definitions; imported when needed.
    ``default``: the name that settings without a name are for.
    """

    def __init__(self, kind: str, *packages: str, default: str | None = None) -> None:
        self.kind, self.default = kind, default
        self._packages = packages
        self._configs: dict[str, type[Config]] = {}
        self._loaded = False
        _REGISTRIES.append(self)

    def register(self, name: str) -> Callable[[ConfigType], ConfigType]:
        """Class decorator: make ``name`` a valid choice. ValueError if the name is taken."""

        def decorate(config: ConfigType) -> ConfigType:
            known = self._configs.get(name)
            if known is not None and _place(known) != _place(config):
                raise ValueError(f"{self.kind} {name!r} is already registered by {known}")
            config.registered_name = name
            self._configs[name] = config
            return config

        return decorate

    def names(self) -> list[str]:
        """All valid names, sorted."""
        self._load()
        return sorted(self._configs)

    def config(self, name: str) -> type[Config]:
        """The config class of ``name``; UserError with the valid choices if unknown."""
        self._load()
        if name not in self._configs:
            raise UserError(f"unknown {self.kind} {name!r}{did_you_mean(name, self.names())}")
        return self._configs[name]

    def parse(self, value: object) -> Config:
        """A YAML value -> config. ``"fsdd"`` means ``{"name": "fsdd"}``."""
        if isinstance(value, Config):
            return value
        fields = {"name": value} if isinstance(value, str) else value
        if isinstance(fields, dict) and self.default is not None:
            fields = {"name": self.default, **fields}
        if not isinstance(fields, dict) or not isinstance(fields.get("name"), str):
            raise PydanticCustomError(
                "choice",
                "must be a name or a mapping with the key 'name' ({kind}: {valid})",
                {"kind": self.kind, "valid": ", ".join(self.names())},
            )
        name = fields["name"]
        if name not in self.names():
            message = f"unknown {self.kind} '{name}'{did_you_mean(name, self.names())}"
            raise PydanticCustomError("choice", "{message}", {"message": message})
        return self.config(name).parse({k: v for k, v in fields.items() if k != "name"})

    @property
    def choice(self) -> _Choice:
        """Annotation for a pydantic field: ``dataset: Annotated[Config, DATASETS.choice]``."""
        return _Choice(self)

    def _load(self) -> None:
        if self._loaded:
            return
        self._loaded = True
        for package in self._packages:
            for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
                if not module.ispkg:
                    importlib.import_module(f"{package}.{module.name}")
        load_plugins()


def load_plugins() -> None:
    """Import the modules that plug-ins name; UserError if one cannot be imported."""
    variable = os.environ.get(PLUGIN_VARIABLE, "")
    if variable and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # a module beside the config, as `python -m` would find it
    modules = {m.strip(): PLUGIN_VARIABLE for m in variable.split(",") if m.strip()}
    for point in importlib.metadata.entry_points(group=PLUGIN_GROUP):
        modules[point.value] = f"entry point {point.name!r}"
    for module, source in modules.items():
        try:
            importlib.import_module(module)
        # Anybody's code: what it raises is told with its name, and it may not end the program.
        except (Exception, SystemExit) as error:
            kind = (
                "" if isinstance(error, ImportError | ValueError) else f"{type(error).__name__}: "
            )
            words = " ".join(str(error).split())[:300]
            raise UserError(f"plug-in module {module!r} ({source}): {kind}{words}") from error


def plugged_modules() -> list[str]:
    """Modules outside the tree that have registered things, however they were imported.

    Another process that is to know the same names imports them: ``MEDLEY_PLUGINS``.
    """
    places = [c.__module__ for registry in _REGISTRIES for c in registry._configs.values()]
    return sorted({p for p in places if p.partition(".")[0] not in (*OWN, "__main__")})


class _Choice:
    """Pydantic glue: errors keep their path below the field; the schema lists every choice."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            self.registry.parse,
            serialization=core_schema.plain_serializer_function_ser_schema(Config.dump),
        )

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        names = self.registry.names()
        choices: list[dict[str, Any]] = [{"enum": names}]
        if self.registry in _LISTING:  # a choice within itself: its settings are listed outside
            return {
                "title": self.registry.kind,
                "anyOf": [*choices, {"type": "object", "properties": {"name": {"enum": names}}}],
            }
        _LISTING.append(self.registry)
        try:
            for name in names:
                core = self.registry.config(name).__pydantic_core_schema__
                fields = dict(handler.resolve_ref_schema(handler(core)))
                fields["properties"] = {"name": {"const": name}, **fields.get("properties", {})}
                name_needed = [] if name == self.registry.default else ["name"]
                fields["required"] = [*name_needed, *fields.get("required", [])]
                choices.append(fields)
        finally:
            _LISTING.pop()
        return {"title": self.registry.kind, "anyOf": choices}


_LISTING: list[Registry] = []  # registries whose schema is being made
