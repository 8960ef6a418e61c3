"""What the name of a table's row says of settings."""

from __future__ import annotations

from collections.abc import Sequence

from multimodal.registry import Config


def changed(config: Config, names: Sequence[str]) -> str:
    """ ", name=value" of each of these settings that is not as by default."""
    fields = type(config).model_fields
    return "".join(
        f", {name}={value:g}" if isinstance(value, float) else f", {name}={value}"
        for name in names
        if (value := getattr(config, name)) != fields[name].default
    )
