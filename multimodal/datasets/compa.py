"""CompA-order and CompA-attribute (Ghosh et al., ICLR 2024), in the layout of their release.

The release was not at hand: columns and names are those of the authors' code and of two loaders
that others wrote for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from multimodal.datasets import DATASETS
from multimodal.datasets.compositional import (
    CompositionalConfig,
    CompositionalSet,
    Item,
    Member,
    compositional_set,
)
from multimodal.datasets.csv_files import csv_rows
from multimodal.datasets.folder import entries, wrong_folder
from multimodal.datasets.splits import Unverified
from multimodal.errors import UserError

PAIR = (("pair_caption", "pair_file"), ("reversed_pair_caption", "reversed_pair_file"))
TRIPLET = ("triplet_caption", "triplet_file")
NO_TRIPLET = "-"
SOURCE = "https://github.com/Sreyan88/CompA"
CITATION = "S. Ghosh et al., CompA, ICLR 2024, arXiv:2310.08753"


class CompaConfig(CompositionalConfig):
    """Base of both. tables, sounds: the names that the CSV file (without its ending) and the folder
    of sounds may have, in small letters without spaces, hyphens and underscores. expected: their
    usual ones, in words. rows: numbers of rows that a whole table is known to have.
    """

    modalities: ClassVar[tuple[str, ...]] = ("audio",)
    tables: ClassVar[tuple[str, ...]] = ()
    sounds: ClassVar[tuple[str, ...]] = ()
    expected: ClassVar[str] = ""
    rows: ClassVar[tuple[int, ...]] = ()
    generated: ClassVar[bool] = False
    columns: ClassVar[tuple[tuple[str, str], ...]] = PAIR

    def build_compositional(self, root: Path) -> CompositionalSet:
        """UserError: other columns, cells that are empty, two tables or folders that may be meant,
        and every missing file.
        """
        table = self._only(root, [e for e in entries(root, self.expected) if self.is_table(e)])
        folder = self._only(root, [e for e in entries(root, self.expected) if self.is_sounds(e)])
        files = _Files(self, folder)
        wanted = [column for pair in self.columns for column in pair]
        lines = csv_rows(table, wanted, others=True, repeated=True)
        items = [self._item(row, files, f"{table}, line {line}") for line, row in lines]
        return compositional_set(
            items,
            root=root,
            name=self.registered_name,
            modality="audio",
            version=self._version(len(items)),
            licence=self.licence,
            citation=CITATION,
            split_rule="official: all test",
            synthetic=self.generated,
        )

    def _version(self, rows: int) -> str:
        """How many rows there are: scores of tables of other lengths do not compare."""
        known = " or ".join(map(str, self.rows))
        return f"{rows} rows" if rows in self.rows else f"{rows} rows (a whole table has {known})"

    def _item(self, row: dict[str, str], files: _Files, where: str) -> Item:
        members = []
        for pair in self.columns:
            caption_column, file_column = pair
            # Of a column that comes twice, the second holds the names in the archive; the first
            # holds those of the sources.
            file_column = f"{file_column}.1" if f"{file_column}.1" in row else file_column
            caption, name = row[caption_column].strip(), row[file_column].strip()
            if pair == TRIPLET and caption == name == NO_TRIPLET:
                continue
            for column, cell in ((caption_column, caption), (file_column, name)):
                if cell in ("", NO_TRIPLET):
                    raise UserError(f"{where}: {column} is {cell!r}; restore the official file.")
            if name == ".." or "/" in name or "\\" in name:
                raise UserError(f"{where}: {file_column} {name!r} is not the name of a file.")
            members.append(Member(name, files.path(name), caption))
        return Item(where, members)

    def _only(self, root: Path, found: list[Path]) -> Path:
        if not found:
            raise wrong_folder(root, self.expected)
        if len(found) > 1:
            names = " and ".join(path.name for path in found)
            raise UserError(f"{root}: {names} may both be meant; keep one of them.")
        return found[0]

    def is_table(self, entry: Path) -> bool:
        return (
            entry.is_file() and entry.suffix.lower() == ".csv" and _plain(entry.stem) in self.tables
        )

    def is_sounds(self, entry: Path) -> bool:
        return entry.is_dir() and _plain(entry.name) in self.sounds


class _Files:
    """The files of a folder, by name; the archive's own folder may lie within it."""

    def __init__(self, config: CompaConfig, folder: Path) -> None:
        self.folder = folder
        self.by_name = {path.name: path for path in self._files(config, folder)}
        self.by_small = {name.casefold(): path for name, path in self.by_name.items()}

    def _files(self, config: CompaConfig, folder: Path) -> Iterator[Path]:
        for entry in entries(folder, "sounds"):
            if config.is_sounds(entry):
                yield from self._files(config, entry)
            elif entry.is_file():
                yield entry

    def path(self, name: str) -> Path:
        """The file of this name, in any case; where it should be, if there is none."""
        found = self.by_name.get(name) or self.by_small.get(name.casefold())
        return found or self.folder / name


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", "", name).casefold()


@DATASETS.register("compa_order")
class CompaOrderConfig(CompaConfig):
    """``CompA_order_benchmark.csv`` and the sounds in ``CompA_order_files/``, spelt in any way.

    Items of two recordings, and of three where the table has a third pair ("-" says that it has
    none): the same events in the order A B, in the order B A, and at once.
    """

    folder: ClassVar[str] = "compa_order"
    summary: ClassVar[str] = "CompA-order: 400 items of sounds that differ in the events' order"
    licence: ClassVar[str] = "none stated; sounds of AudioSet's videos"
    how_to_get: ClassVar[str] = (
        f"Follow the links of {SOURCE} and put CompA_order_benchmark.csv and the folder "
        "CompA_order_files into compa_order/."
    )
    tables: ClassVar[tuple[str, ...]] = ("compaorderbenchmark", "compaorder")
    sounds: ClassVar[tuple[str, ...]] = ("compaorderfiles", "compaorder")
    expected: ClassVar[str] = "CompA_order_benchmark.csv and CompA_order_files/"
    rows: ClassVar[tuple[int, ...]] = (400,)
    columns: ClassVar[tuple[tuple[str, str], ...]] = (*PAIR, TRIPLET)

    def expected_counts(self) -> dict[str, int]:
        """Nothing to train on; 300 pairs and 100 triplets."""
        return {"train": 0, "test": Unverified(900)}


@DATASETS.register("compa_attribute")
class CompaAttributeConfig(CompaConfig):
    """``Compa-Attribute.csv`` and the sounds in ``CompA_attribute_files/``, spelt in any way.

    Items of two recordings, made with WavJourney, with the attributes of two sources swapped. The
    table has the columns of files twice, and the second ones count (the authors' own evaluator
    reads the first ones, which hold names that are not in the archive). The paper has 200 items,
    the released table 197; the manifest's version says how many were read.
    """

    folder: ClassVar[str] = "compa_attribute"
    summary: ClassVar[str] = "CompA-attribute: 197 items of synthetic sounds, attributes swapped"
    licence: ClassVar[str] = "none stated; sounds made with WavJourney"
    how_to_get: ClassVar[str] = (
        f"Follow the links of {SOURCE} and put Compa-Attribute.csv and the folder "
        "CompA_attribute_files into compa_attribute/."
    )
    tables: ClassVar[tuple[str, ...]] = ("compaattribute", "compaattributebenchmark")
    sounds: ClassVar[tuple[str, ...]] = ("compaattributefiles", "compaattribute")
    expected: ClassVar[str] = "Compa-Attribute.csv and CompA_attribute_files/"
    rows: ClassVar[tuple[int, ...]] = (197, 200)
    generated: ClassVar[bool] = True

    def expected_counts(self) -> dict[str, int]:
        """Nothing to train on."""
        return {"train": 0}
