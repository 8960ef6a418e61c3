"""A user's own compositional items, one JSON object a line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

from multimodal.datasets import DATASETS
from multimodal.datasets.compositional import (
    CompositionalConfig,
    CompositionalSet,
    Item,
    Member,
    compositional_set,
)
from multimodal.datasets.folder import entries
from multimodal.datasets.places import inside, spelled
from multimodal.datasets.table_files import Row, read_table
from multimodal.errors import UserError

FORM = '{"signals": ["a.wav", "b.wav"], "captions": ["one", "two"]}'


@DATASETS.register("compositional")
class CompositionalItemsConfig(CompositionalConfig):
    """A .jsonl ``file`` with one item a line, relative to the root, of any modality:

        {"signals": ["a.wav", "b.wav"], "captions": ["rain, then a bell", "a bell, then rain"]}

    signals: two or more paths relative to the root; absolute names and symbolic links must lead
    into it. captions: as many, the first of the first signal, with any characters in them. "tags"
    may follow, such as {"relation": "order"}, which reports can sort items by; "synthetic": true
    among them says that the item's signals were generated.
    """

    modalities: ClassVar[tuple[str, ...]] = ("audio", "speech", "ecg", "xray", "video")
    summary: ClassVar[str] = "your own compositional items: signals to tell apart, with captions"
    licence: ClassVar[str] = "that of your data"
    how_to_get: ClassVar[str] = "Set root to the folder of the recordings and file to the table."

    file: str = "items.jsonl"
    modality: str = "audio"

    def build_compositional(self, root: Path) -> CompositionalSet:
        """UserError names the file and the data rows (from 1), or the missing recordings."""
        entries(root, f"the table {self.file!r} and its recordings")
        table, _ = inside(root, self.file, f"file {self.file!r}")
        if table.suffix.lower() != ".jsonl":
            raise UserError(f"file {self.file!r} must be a .jsonl of lines such as {FORM}.")
        _, rows = read_table(table)
        items = [
            _item(root, row, f"{table}, data row {number}")
            for number, row in enumerate(rows, start=1)
        ]
        return compositional_set(
            items,
            root=root,
            name="compositional",
            modality=self.modality,
            version="unversioned",
            split_rule="all test",
            synthetic=any(item.tags.get("synthetic") == "true" for item in items),
        )

    def expected_counts(self) -> dict[str, int]:
        """Nothing to train on."""
        return {"train": 0}


def _item(root: Path, row: Row, where: str) -> Item:
    names, captions = _texts(row, "signals", where), _texts(row, "captions", where)
    if len(names) != len(captions):
        raise UserError(f"{where}: {len(names)} signals but {len(captions)} captions.")
    unknown = sorted(set(row) - {"signals", "captions", "tags"})
    if unknown:
        raise UserError(f"{where}: unknown key {unknown[0]!r}; valid: signals, captions, tags.")
    members = []
    for name, caption in zip(names, captions, strict=True):
        path, uid = inside(root, spelled(root, name), f"{where}: signal {name!r}")
        members.append(Member(uid, path, caption))
    return Item(where, members, _tags(row.get("tags"), where))


def _texts(row: Row, key: str, where: str) -> list[str]:
    value = row.get(key)
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        found = "is missing" if value is None else f"is {json.dumps(value)[:60]}"
        raise UserError(f"{where}: {key} {found}; give a list of texts, as in {FORM}.")
    if not all(each.strip() for each in value):
        raise UserError(f"{where}: {key} holds an empty text; fill it in or remove the item.")
    return value


def _tags(value: Any, where: str) -> dict[str, str]:
    """Values as text: numbers and true as JSON writes them."""
    if value is None:
        return {}
    if not isinstance(value, dict) or any(isinstance(v, dict | list) for v in value.values()):
        raise UserError(
            f"{where}: tags are {json.dumps(value)[:60]}; give an object of texts and numbers such "
            'as {"relation": "order"}.'
        )
    return {k: v if isinstance(v, str) else json.dumps(v) for k, v in value.items()}
