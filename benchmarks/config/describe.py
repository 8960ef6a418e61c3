"""The settings of a config as a table for people."""

from __future__ import annotations

from typing import Any

from rich.table import Table
from rich.text import Text

from multimodal.registry import Config


def settings_table(config: type[Config]) -> Table:
    """Key, type and default of every setting."""
    table = Table(title="settings")
    for column in ("key", "type", "default"):
        table.add_column(column)
    for key, field in config.model_fields.items():
        default = "(required)" if field.is_required() else repr(field.get_default())
        if field.default_factory is not None:
            default = "(follows the settings above)"
        table.add_row(key, Text(_type_name(field.annotation)), Text(default))
    return table


def _type_name(annotation: Any) -> str:
    return getattr(annotation, "__name__", "") if isinstance(annotation, type) else str(annotation)
