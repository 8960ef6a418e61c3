"""300 shipped configs, each changed at random: accepted, or refused in clear lines, and soon."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

FOLDER = Path(__file__).parents[3] / "configs"
CONFIGS = sorted(FOLDER.rglob("*.yaml"))
STRANGE: list[Any] = [
    *(None, True, False, 0, -1, 1, 2**63, 10**400, 0.5, -0.0, 1e308, float("nan"), float("inf")),
    *("", " ", "x", "none", "a/b", "../..", "~", "\0", "\u202e", "é" * 300, "1e-3", "[1", "{a: b}"),
    *([], [[]], [None], [1, "a", {}], {}, {"name": "x"}, {"name": None}, {"": 1}, {"name": ["x"]}),
    *("packaged-minilm", "https://[", "file:///dev/null", "/dev/zero", "$HOME", "%s", "{}"),
]
SECONDS = 20


def changed(data: Any, rng: random.Random) -> Any:
    """One place of the data is another value, is gone, or has a neighbour that nobody knows."""
    if isinstance(data, dict) and data and rng.random() < 0.85:
        key = rng.choice(list(data))
        return {**data, key: changed(data[key], rng)}
    if isinstance(data, list) and data and rng.random() < 0.85:
        at = rng.randrange(len(data))
        return [changed(v, rng) if i == at else v for i, v in enumerate(data)]
    kind = rng.random()
    if isinstance(data, dict) and kind < 0.3:
        return {**data, rng.choice(["nmae", "", "0", "epochs", "\n"]): rng.choice(STRANGE)}
    if isinstance(data, dict) and data and kind < 0.6:
        gone = rng.choice(list(data))
        return {k: v for k, v in data.items() if k != gone}
    if isinstance(data, list) and kind < 0.5:
        return data * rng.randrange(3)
    return rng.choice(STRANGE)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(300))
def test_no_traceback_and_no_wait(seed: int, medley, tmp_path: Path) -> None:
    rng = random.Random(seed)
    path = CONFIGS[seed % len(CONFIGS)]
    data = yaml.safe_load(path.read_text("utf-8"))
    for _ in range(rng.randrange(1, 4)):
        data = changed(data, rng)
    file = tmp_path / "changed.yaml"
    try:
        file.write_text(yaml.safe_dump(data, allow_unicode=True), "utf-8")
    except yaml.YAMLError:
        file.write_text(json.dumps(data), "utf-8")
    words = []
    if rng.random() < 0.3:
        words.append(
            f"{rng.choice(['seeds', 'a.b', 'training.epochs', 'x'])}={rng.choice(STRANGE)}"
        )
    begin = time.monotonic()
    outcome = medley("config", "show", "changed.yaml", *words)
    assert time.monotonic() - begin < SECONDS
    assert outcome.code in (0, 2), outcome
    assert "Traceback" not in outcome.err
    if outcome.code == 2:
        assert outcome.err.startswith("error: "), outcome.err
        assert max(map(len, outcome.err.splitlines())) < 2_000
