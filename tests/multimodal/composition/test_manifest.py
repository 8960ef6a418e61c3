from __future__ import annotations

import json
from dataclasses import replace

from multimodal.composition.draw import draw
from multimodal.composition.ecg import EcgComposerConfig
from multimodal.composition.manifest import described
from multimodal.composition.plan import ComposerConfig
from multimodal.composition.relations import Constraint, verdict
from tests.multimodal.composition.pools import pool_of

ODD = 'a "dog" [1] {0} \\ é'


def test_what_is_kept_says_what_every_caption_claims() -> None:
    pool = pool_of(80)
    pool = replace(pool, phrases=tuple(ODD if p == "dog" else p for p in pool.phrases))
    scenes = draw(pool, ComposerConfig(), 60, 0)
    lines = [json.dumps(row) for row in described(scenes, pool)]
    rows = [json.loads(line) for line in lines]
    assert [row["hash"] for row in rows] == scenes.hashes
    assert any(ODD in row["caption"] for row in rows)
    for number, row in enumerate(rows):
        assert row["synthetic"] is True
        times = [(event["onset"], event["offset"]) for event in row["events"]]
        assert max(off for _, off in times) == row["seconds"]
        for event, (on, off) in zip(row["events"], times, strict=True):
            assert abs(off - on - event["loops"] * event["seconds"]) < 1e-9
            assert event["words"] in row["caption"]
            assert pool.sources[event["recording"]] == event["source"]
        assert [p["text"] for p in row["positives"]] == scenes.positives[number]
        for side, right in (("positives", True), ("negatives", False)):
            for entry in row[side]:
                claims = [Constraint(k, tuple(x), tuple(y)) for k, x, y in entry["claims"]]
                assert verdict(claims, times) is right


def test_a_medical_set_says_what_it_is_for() -> None:
    pool = pool_of(80)
    scenes = draw(pool, ComposerConfig(), 2, 0)
    notices = [row["notice"] for row in described(scenes, pool, notice=EcgComposerConfig.notice)]
    assert notices == ["For research, not for clinical use."] * 2
