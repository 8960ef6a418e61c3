"""The benchmark of decoding runs, and prints the figures that scripts read."""

from __future__ import annotations

import json
import sys

import pytest

from benchmarks.speed import seq2seq


def test_quick_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(sys, "argv", ["seq2seq", "--quick"])
    monkeypatch.setattr(seq2seq, "LONGEST", 6)
    seq2seq.main()
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(figures) == {
        *("beam_batched_over_single", "cached_over_uncached_decode", "coconut_over_er"),
    }
    assert all(value > 0 for value in figures.values())


def test_recordings_alone_are_those_of_the_batch() -> None:
    model = seq2seq.endless_model()
    encoded = seq2seq.heard(model, 3)
    together = model.beam(encoded, width=2, longest=4)
    for ids, one in zip(together.ids, seq2seq.singles(encoded), strict=True):
        assert model.beam(one, width=2, longest=4).ids == [ids]
        assert len(ids) == 4
        assert one.mask.all()
