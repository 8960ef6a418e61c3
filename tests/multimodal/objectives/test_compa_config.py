"""The configs of CompA's objectives: what they ask of the data, and that they use it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from multimodal.objectives import OBJECTIVES
from multimodal.objectives.compa import HardNegativesConfig, ModularConfig, hard_negatives, modular
from multimodal.objectives.contrastive import info_nce
from multimodal.objectives.views import TEXT, Extra, Views, ViewsConfig

N = 6
IDS = torch.tensor([0, 0, 1, 2, 3, 4])
KEYS = torch.tensor([0, 0, 0, 1, 2, 2])
SOME = torch.tensor([1, 1, 0, 1, 1, 1]).bool()


def views(*, extras: bool = True, keys: bool = True, second: bool = False) -> Views:
    random = torch.Generator().manual_seed(0)

    def some(*shape: int) -> Tensor:
        return torch.randn(*shape, 4, generator=random)

    embeddings = {"audio": some(N), TEXT: some(N)}
    beside = {
        name: Extra(some(N, k), torch.rand(N, k, generator=random) < 0.7)
        for name, k in (("positives", 2), ("negatives", 3), ("negative_signals", 1))
    }
    if second:
        embeddings["video"] = some(N)
    return Views(
        embeddings,
        some(N),
        IDS,
        torch.tensor(8.0),
        torch.tensor(0.0),
        present={"audio": SOME},
        extras=beside if extras else {},
        keys=KEYS if keys else None,
    )


def parsed(name: str, **settings: Any) -> ViewsConfig:
    config = OBJECTIVES.parse({"name": name, **settings})
    assert isinstance(config, ViewsConfig)
    return config


def test_what_each_objective_asks_of_the_data() -> None:
    of_name = {name: parsed(name) for name in OBJECTIVES.names()}
    asked = {name: config.extra_texts for name, config in of_name.items() if config.extra_texts}
    assert asked == {
        "compa_hard_negatives": {"negatives": 3},
        "compa_modular": {"positives": 5, "negatives": 5},
    }
    assert not any(c.extra_signals or c.needs_keys for c in of_name.values())
    config = parsed(
        "compa_modular",
        positives=7,
        negatives=0,
        negative_audio=1,
        mask_equal_compositions=True,
    )
    assert config.extra_texts == {"positives": 7}
    assert config.extra_signals == {"negative_signals": 1}
    assert config.needs_keys


def test_hard_negatives_uses_what_it_asks_for_and_nothing_else() -> None:
    given = views()
    pairs = given.pairs("audio")
    options: dict[str, Any] = {"present": SOME}
    negatives, signals = given.extras["negatives"], given.extras["negative_signals"]
    for settings, more in (
        ({}, {}),
        ({"tile": 2}, {"tile": 2}),
        ({"mask_duplicates": True}, {"ids": IDS}),
        ({"mask_equal_compositions": True}, {"keys": KEYS}),
        (
            {"negative_audio": 1},
            {"negative_signals": signals.embeddings, "allowed_signals": signals.allowed},
        ),
    ):
        loss = parsed("compa_hard_negatives", **settings).of_views(given, gather=False)
        expected = hard_negatives(
            pairs.signals,
            pairs.texts,
            pairs.scale,
            negatives=negatives.embeddings,
            allowed=negatives.allowed,
            **options,
            **more,
        )
        assert torch.equal(loss.value, expected.value)
        assert loss.terms == expected.terms


@pytest.mark.parametrize("settings", [{}, {"denominator": "all"}, {"negative_audio": 1}])
def test_modular_uses_what_it_asks_for(settings) -> None:
    given = views()
    pairs = given.pairs("audio")
    weights = [4.0, 2.0, 1.0, 1.0, 1.0, 1.0]
    true, false = given.extras["positives"], given.extras["negatives"]
    options: dict[str, Any] = {"denominator": settings.get("denominator", "own")}
    if "negative_audio" in settings:
        unlike = given.extras["negative_signals"]
        options |= {"negative_signals": unlike.embeddings, "allowed_signals": unlike.allowed}
    for listed in (None, weights):
        config = parsed("compa_modular", positive_weights=listed, **settings)
        expected = modular(
            pairs.signals,
            pairs.texts,
            pairs.scale,
            positives=true.embeddings,
            allowed_positives=true.allowed,
            negatives=false.embeddings,
            allowed_negatives=false.allowed,
            positive_weights=None if listed is None else torch.tensor(listed[:3]),
            present=SOME,
            **options,
        )
        assert torch.equal(config.of_views(given, gather=False).value, expected.value)


def test_what_is_not_asked_for_is_not_used() -> None:
    given = views()
    config = parsed("compa_modular", positives=0, negatives=0)
    pairs = given.pairs("audio")
    expected = info_nce(pairs.signals, pairs.texts, pairs.scale, present=SOME).value
    torch.testing.assert_close(config.of_views(given, gather=False).value, expected)
    bare = views(extras=False, keys=False)
    torch.testing.assert_close(config.of_views(bare, gather=False).value, expected)


def test_what_the_data_lacks_is_named() -> None:
    bare = views(extras=False, keys=False)
    config = parsed("compa_modular", negative_audio=1, mask_equal_compositions=True)
    message = (
        r"objective 'compa_modular': the data gives no positives \(5 a case\), no negatives "
        r"\(5 a case\), no negative_signals \(1 a case\), no keys \(mask_equal_compositions\)"
    )
    with pytest.raises(ValueError, match=message):
        config.of_views(bare, gather=False)
    with pytest.raises(ValueError, match=r"no negatives \(3 a case\); take composed data"):
        parsed("compa_hard_negatives").of_views(bare, gather=False)


def test_negative_audio_is_of_one_modality() -> None:
    config = parsed("compa_hard_negatives", negative_audio=1)
    config.check_views(("audio", TEXT))
    for check in (
        lambda: config.check_views(("audio", "video", TEXT)),
        lambda: config.of_views(views(second=True), gather=False),
    ):
        with pytest.raises(ValueError, match=r"negative_audio=1 is of one .*audio, video"):
            check()
    both = parsed("compa_hard_negatives").of_views(views(second=True), gather=False)
    assert {"audio/margin", "video/margin"} <= set(both.terms)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"positive_weights": [1.0, 2.0]}, "positive_weights has 2 numbers; give 6"),
        ({"positive_weights": [0.0] * 6}, "greater than 0"),
        ({"denominator": "literal"}, "'own' or 'all'"),
        ({"negative_audio": 2}, "less than or equal to 1"),
        ({"negatives": -1}, "greater than or equal to 0"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ModularConfig.parse(settings)


def test_a_row_is_named_by_what_is_not_usual() -> None:
    assert HardNegativesConfig().row_name == "compa_hard_negatives (reconstruction)"
    config = ModularConfig.parse({"denominator": "all", "negatives": 7, "learn_scale": False})
    assert config.row_name == (
        "compa_modular (reconstruction), negatives=7, denominator=all, scale fixed at 14.2857"
    )
    told = {"positives", "negatives", "denominator", "positive_weights", "scale"}
    assert told <= set(config.named)
