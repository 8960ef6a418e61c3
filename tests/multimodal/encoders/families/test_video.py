"""VideoMAE against transformers' own processor and model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from multimodal.encoders.pretrained import PretrainedConfig
from multimodal.errors import UserError
from multimodal.modalities.video import VideoConfig
from tests.multimodal.encoders.checkpoints import batch_of, save_video_checkpoint


@pytest.mark.parametrize("size", [16, 21])
@pytest.mark.parametrize("maker", ["VideoMAEImageProcessor", "VideoMAEVideoProcessor"])
def test_features_and_embeddings_equal_transformers(tmp_path: Path, size: int, maker: str) -> None:
    theirs = save_video_checkpoint(tmp_path)
    config, adapter = PretrainedConfig(checkpoint=str(tmp_path)), VideoConfig(frames=4, size=size)
    clips = torch.randint(0, 256, (2, 4, 3, size, size), dtype=torch.uint8)
    batch = batch_of(clips, torch.tensor([4, 4]))
    values, lengths = config.front_end(adapter.build())(batch)

    processor: Any = getattr(transformers, maker).from_pretrained(tmp_path)
    expected = processor([list(clip.numpy()) for clip in clips], return_tensors="pt")[
        "pixel_values"
    ]
    assert values.shape == (2, 3, 4, 16, 16)
    torch.testing.assert_close(values, expected.transpose(1, 2), atol=1e-4, rtol=0)

    out = config.build(adapter.build())(values, lengths)
    tokens = theirs(pixel_values=expected).last_hidden_state
    assert tokens.shape == (2, 2 * 2 * 2, 32)
    torch.testing.assert_close(out.tokens, tokens, atol=1e-5, rtol=0)
    torch.testing.assert_close(out.pooled, tokens.mean(1), atol=1e-5, rtol=0)


@pytest.mark.parametrize("mean", [True, False])
def test_the_norm_behind_the_blocks_is_trained_with_the_last_one(
    tmp_path: Path, mean: bool
) -> None:
    save_video_checkpoint(tmp_path, use_mean_pooling=mean)
    config = PretrainedConfig(checkpoint=str(tmp_path), train=1)
    encoder = config.build(VideoConfig(frames=4, size=16).build())
    trained = {n.split(".")[1] for n, p in encoder.named_parameters() if p.requires_grad}
    assert trained == ({"encoder"} if mean else {"encoder", "layernorm"})


@pytest.mark.parametrize(
    ("adapter", "words"),
    [
        (VideoConfig(frames=8, size=16), r"modality\.frames=8: .* set modality\.frames=4"),
        (VideoConfig(frames=4, size=8), r"modality\.size=8: .* set modality\.size=16"),
    ],
)
def test_clips_that_do_not_fit_are_refused(
    tmp_path: Path, adapter: VideoConfig, words: str
) -> None:
    save_video_checkpoint(tmp_path)
    with pytest.raises(UserError, match=words):
        PretrainedConfig(checkpoint=str(tmp_path)).front_end(adapter.build())
