"""Coffee orders on a tiny copy of the layout, and on the real data."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from multimodal.check import check
from multimodal.datasets.coffee_orders import CoffeeOrdersConfig, words_of
from multimodal.errors import UserError
from multimodal.evaluation.prompts import load_prompts
from multimodal.modalities.speech import SpeechConfig


def make_copy(root: Path, per_drink: int = 4) -> list[dict[str, Any]]:
    (root / "audio").mkdir(parents=True)
    orders = []
    for drink in ("latte", "iced mocha"):
        for number in range(per_drink):
            file = f"audio/{drink[0]}{number}.ogg"
            (root / file).write_bytes(b"x")
            orders.append({"file": file, "slots": {"coffeeDrink": drink, "size": "small"}})
    write(root, orders)
    return orders


def write(root: Path, orders: object) -> None:
    (root / "orders.json").write_text(json.dumps(orders))


def test_tiny_copy(tmp_path: Path) -> None:
    make_copy(tmp_path)
    manifest = CoffeeOrdersConfig().build(tmp_path)
    assert manifest.class_names == ("iced mocha", "latte")
    assert Counter(manifest.splits) == {"train": 6, "test": 2}
    row = next(r for r in manifest if r.uid == "audio/l1.ogg")
    assert (row.label, row.text, row.path) == (1, "small latte", tmp_path / "audio/l1.ogg")
    assert "speakers are unknown" in manifest.split_rule
    other = CoffeeOrdersConfig(seed=1).build(tmp_path)
    assert [r.split for r in other] != [r.split for r in manifest]


def test_the_words_of_an_order() -> None:
    slots = {
        "coffeeDrink": "iced coffee",
        "milkAmount": "some milk",
        "numberOfShots": "double shot",
        "roast": "dark roast",
        "sugarAmount": "a bit of sugar",
    }
    words = "double shot dark roast iced coffee with some milk and a bit of sugar"
    assert words_of(slots) == words


def test_slots_are_all_but_the_drink_in_the_order_of_the_words(tmp_path: Path) -> None:
    orders = make_copy(tmp_path)
    said = {"sugarAmount": "sugar", "milkAmount": "milk", "coffeeDrink": "latte", "size": "large"}
    orders[0]["slots"] = said
    write(tmp_path, orders)
    with_slots = CoffeeOrdersConfig(slots=True).build(tmp_path)
    row = next(r for r in with_slots if r.uid == orders[0]["file"])
    assert row.slots == (("size", "large"), ("milkAmount", "milk"), ("sugarAmount", "sugar"))
    assert CoffeeOrdersConfig().build(tmp_path).slots is None
    orders[0]["slots"] = {**said, "size": "very\nlarge"}
    write(tmp_path, orders)
    with pytest.raises(UserError, match=r"orders\.json, audio/l0\.ogg: slot"):
        CoffeeOrdersConfig(slots=True).build(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda orders: {}, "expected a list of orders"),
        (lambda orders: [*orders, orders[0]], r"'audio/l0.ogg' is listed twice"),
        (lambda orders: [{"file": "a.ogg", "slots": {"size": "small"}}], "order 0 has no file or"),
        (lambda orders: [{"file": "a.ogg", "slots": ["latte"]}], "order 0 has no slots of words"),
        (lambda orders: [{"slots": {"coffeeDrink": "latte"}}], "order 0 has no file or"),
        (
            lambda orders: [*orders, {"file": "audio/x.ogg", "slots": {"coffeeDrink": "latte"}}],
            "1 of 9 recordings are missing, such as 'audio/x.ogg'",
        ),
    ],
)
def test_bad_indexes_are_named(tmp_path: Path, change: Any, words: str) -> None:
    write(tmp_path, change(make_copy(tmp_path)))
    with pytest.raises(UserError, match=words):
        CoffeeOrdersConfig().build(tmp_path)


def test_no_or_a_damaged_index(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"orders\.json and the recordings"):
        CoffeeOrdersConfig().build(tmp_path)
    (tmp_path / "orders.json").write_text("[")
    with pytest.raises(UserError, match=r"orders\.json: cannot be read"):
        CoffeeOrdersConfig().build(tmp_path)


@pytest.mark.realdata
def test_real_copy(real_data: Path) -> None:
    root = real_data / "coffee_orders"
    if not root.is_dir():
        pytest.skip(f"{root} is not there")
    manifest = CoffeeOrdersConfig().build(root)
    assert len(manifest) == 619
    assert Counter(manifest.labels.tolist())[manifest.class_names.index("mocha")] == 89
    assert Counter(manifest.splits)["test"] == 155
    assert all(r.text for r in manifest)
    slots = CoffeeOrdersConfig(slots=True).build(root).slots
    assert slots is not None
    assert Counter(kind for own in slots for kind, _ in own)["roast"] == 304
    phrases = load_prompts("speech_intent", "coffee_orders").phrases
    assert tuple(phrases) == manifest.class_names
    assert not check(manifest, SpeechConfig().build(), progress=False).errors
