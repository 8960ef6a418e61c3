"""Spoken coffee orders of the speech-to-intent benchmark of Picovoice (Apache-2.0)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from multimodal.datasets import DATASETS, DatasetConfig
from multimodal.datasets.folder import wrong_folder
from multimodal.datasets.slots import checked
from multimodal.datasets.splits import class_order, seeded_split
from multimodal.errors import UserError
from multimodal.recordings import Manifest, Recording, Slots

INDEX = "orders.json"
EXPECTED = f"{INDEX} and the recordings that it names"
# In the order in which an order is said.
SLOTS = ("size", "numberOfShots", "roast", "coffeeDrink")
EXTRAS = ("milkAmount", "sugarAmount")
DRINK = "coffeeDrink"


@DATASETS.register("coffee_orders")
class CoffeeOrdersConfig(DatasetConfig):
    """``orders.json`` lists ``{"file": ..., "slots": {"coffeeDrink": ..., ...}}``; class = drink.

    The text of a recording is its order in the words of its slots, such as "twelve ounce light
    roast coffee with cream": there are no transcripts. Over 50 people speak, but who speaks where
    is unknown, so the split is seeded, stratified by drink, and **shares speakers**. seed,
    test_fraction: of that split. slots: take all but the drink, in the order of the words.
    """

    folder: ClassVar[str] = "coffee_orders"
    modalities: ClassVar[tuple[str, ...]] = ("speech",)
    summary: ClassVar[str] = "619 real spoken coffee orders of 10 drinks, 16 kHz, speakers unknown"
    licence: ClassVar[str] = "Apache-2.0"
    how_to_get: ClassVar[str] = (
        "From github.com/Picovoice/speech-to-intent-benchmark: put the recordings into the folder "
        "coffee_orders/audio and the labels, as one list of {file, slots}, into "
        "coffee_orders/orders.json."
    )

    seed: int = Field(default=0, ge=0, lt=2**32)
    test_fraction: float = Field(default=0.25, gt=0, lt=1)
    slots: bool = Field(default=False, exclude_if=lambda on: not on)

    def build(self, root: Path) -> Manifest:
        """UserError: no index, one that is damaged, an order without drink or recording."""
        orders = _read(root)
        drinks = [order["slots"][DRINK] for order in orders]
        names = tuple(class_order(drinks))
        sides = seeded_split(
            [order["file"] for order in orders],
            drinks,
            test_fraction=self.test_fraction,
            seed=self.seed,
        )
        recordings = tuple(
            Recording(
                uid=order["file"],
                labels=(names.index(drink),),
                split=side,
                path=root / order["file"],
                text=words_of(order["slots"]),
                slots=_slots(order["slots"], order["file"]) if self.slots else (),
            )
            for order, drink, side in zip(orders, drinks, sides, strict=True)
        )
        return Manifest(
            name="coffee_orders",
            modality="speech",
            class_names=names,
            recordings=recordings,
            version="orders.json",
            licence=self.licence,
            citation="Picovoice, speech-to-intent benchmark",
            split_rule=(
                f"seeded (seed {self.seed}, {self.test_fraction:g} test), stratified by drink; "
                "speakers are unknown and may stand on both sides"
            ),
            root=root,
        )


def words_of(slots: dict[str, str]) -> str:
    """An order in the words of its slots."""
    extras = " and ".join(slots[key] for key in EXTRAS if key in slots)
    head = " ".join(slots[key] for key in SLOTS if key in slots)
    return f"{head} with {extras}" if extras else head


def _slots(slots: dict[str, str], file: str) -> Slots:
    """All but the drink, which is the class."""
    others = (key for key in (*SLOTS, *EXTRAS) if key in slots and key != DRINK)
    return checked(((key, slots[key]) for key in others), f"{INDEX}, {file}")


def _read(root: Path) -> list[dict[str, Any]]:
    path = root / INDEX
    if not path.is_file():
        raise wrong_folder(root, EXPECTED)
    try:
        orders = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}); copy it again.") from error
    if not isinstance(orders, list) or not orders:
        raise UserError(f"{path}: expected a list of orders; copy it again.")
    for number, order in enumerate(orders):
        _refuse_bad(order, f"{path}: order {number}")
    names = [order["file"] for order in orders]
    twice = next((n for i, n in enumerate(names) if n in names[:i]), None)
    if twice is not None:
        raise UserError(f"{path}: {twice!r} is listed twice; keep one of the two.")
    missing = [name for name in names if not (root / name).is_file()]
    if missing:
        raise UserError(
            f"{root}: {len(missing)} of {len(names)} recordings are missing, such as "
            f"{missing[0]!r}; copy the audio again."
        )
    return orders


def _refuse_bad(order: Any, where: str) -> None:
    slots = order.get("slots") if isinstance(order, dict) else None
    texts = slots.items() if isinstance(slots, dict) else [(None, None)]
    if not all(isinstance(word, str) and word for pair in texts for word in pair):
        raise UserError(f"{where} has no slots of words; expected {{file, slots}}.")
    assert isinstance(slots, dict)
    if not isinstance(order.get("file"), str) or DRINK not in slots:
        raise UserError(f"{where} has no file or no slot {DRINK!r}; correct or remove it.")
