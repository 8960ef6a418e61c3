"""Both towers of a CLAP checkpoint with their projections (Wu et al. 2023, arXiv:2211.06687)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from multimodal.batch import Batch
from multimodal.encoders.checkpoint_files import checkpoint_faults
from multimodal.encoders.families import family_of, load_model, load_processor
from multimodal.encoders.families.clap import ClapFeatures, Padding
from multimodal.encoders.pretrained import read_config, refuse_pickles, weights_digest
from multimodal.errors import UserError
from multimodal.hub import local_folder
from multimodal.modalities.audio import AudioAdapter, AudioConfig
from multimodal.modalities.text import TextAdapter, TextConfig, load_tokenizer

TEXTS_AT_ONCE = 64
MOST_TOKENS = 77  # of the texts that CLAP models were trained on


class ClapPair(nn.Module):
    """Sounds and texts in one space of ``width`` dimensions, all embeddings of length 1.

    model: transformers' ClapModel without fusion. features: the checkpoint's front end.
    """

    def __init__(
        self, model: Any, features: ClapFeatures, tokenizer: TextAdapter, facts: dict[str, Any]
    ) -> None:
        super().__init__()
        self.model, self.features, self.tokenizer = model, features, tokenizer
        self.width: int = model.config.projection_dim
        self._facts = facts

    def front_end(self, padding: Padding) -> ClapFeatures:
        """The checkpoint's, but for how shorter recordings fill its window."""
        features = ClapFeatures(replace(self.features.spec, padding=padding))
        return features.to(next(self.model.parameters()).device)

    @torch.no_grad()
    def embed_signals(self, batch: Batch, front_end: ClapFeatures | None = None) -> Tensor:
        """(N, D) unit rows; of longer recordings the window in the middle is heard."""
        values = (front_end or self.features)(batch).values.transpose(1, 2)[:, None]
        pooled = self.model.audio_model(input_features=values).pooler_output
        return normalize(self.model.audio_projection(pooled), dim=1)

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """n >= 1 texts -> (n, D) unit rows on the CPU, whatever their order or company."""
        unique = sorted(set(texts), key=lambda t: (len(t), t))
        device, found = next(self.model.parameters()).device, dict[str, Tensor]()
        for start in range(0, len(unique), TEXTS_AT_ONCE):
            part = unique[start : start + TEXTS_AT_ONCE]
            ids, lengths = self.tokenizer.tokenize(part)
            mask = torch.arange(ids.shape[1]) < lengths[:, None]
            # RoBERTa numbers positions by what is padding, so it must be its own padding id.
            ids = ids.masked_fill(~mask, self.model.config.text_config.pad_token_id)
            pooled = self.model.text_model(
                input_ids=ids.to(device), attention_mask=mask.long().to(device)
            ).pooler_output
            vectors = normalize(self.model.text_projection(pooled), dim=1).cpu()
            found.update(zip(part, vectors, strict=True))
        return torch.stack([found[t] for t in texts])

    def facts(self) -> dict[str, Any]:
        """What a result pins: name, revision, digest of the weights, sizes, the FeatureSpec."""
        spec = self.features.spec
        return {
            **self._facts,
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "width": self.width,
            "pooling": "the checkpoint's own",
            "sample_rate": spec.sample_rate,
            "window_seconds": spec.window / spec.sample_rate,
        }


def open_clap(checkpoint: str, revision: str | None) -> tuple[ClapPair, AudioAdapter]:
    """The pair and an adapter that decodes at its rate.

    UserError: no such checkpoint, another architecture, fusion, no safetensors, lacking
    projections, extractor or tokenizer.
    """
    folder = local_folder(checkpoint, revision)
    family, config = read_config(checkpoint, folder)
    if family is not family_of("clap", checkpoint):
        raise UserError(
            f"checkpoint {checkpoint!r} is of type {config.model_type!r}, which has no text tower; "
            "give a CLAP checkpoint, such as laion/clap-htsat-unfused."
        )
    refuse_pickles(checkpoint, folder)
    from transformers import ClapModel

    with checkpoint_faults(checkpoint, folder):
        adapter = AudioConfig(sample_rate=_sample_rate(folder)).build()
        whole = family.front_end(folder, config, adapter)
        assert isinstance(whole, ClapFeatures)
        features = ClapFeatures(replace(whole.spec, crop="centre"))
        model = load_model(ClapModel, folder)
        tokenizer = TextConfig(
            tokenizer=str(folder),
            max_length=min(MOST_TOKENS, load_tokenizer(str(folder)).model_max_length),
        ).build()
        facts = {"name": checkpoint, "revision": revision, "weights": weights_digest(folder)}
    return ClapPair(model, features, tokenizer, facts), adapter


def _sample_rate(folder: Path) -> int:
    from transformers import AutoFeatureExtractor

    made = load_processor(AutoFeatureExtractor, folder, "preprocessor_config.json")
    return made.sampling_rate
