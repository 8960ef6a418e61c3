"""Encoder of several modalities: a tower each, which meet in one space."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator
from torch import Tensor, nn

from multimodal.batch import Encoded
from multimodal.encoders import ENCODERS, EncoderConfig, Width
from multimodal.encoders.compact import CompactConfig
from multimodal.errors import UserError
from multimodal.modalities import MODALITIES, SEVERAL, Adapter
from multimodal.modalities.several import SeveralAdapter, unpacked


@ENCODERS.register(SEVERAL)
class SeveralConfig(EncoderConfig):
    """A tower (front end, encoder and a matrix into the space of ``width``) for each modality.

    towers: encoders by modality. default: of the modalities that have none there. The matrices are
    trained, whatever is trained of the encoders.
    """

    towers: dict[str, Annotated[EncoderConfig, ENCODERS.choice]] = Field(default_factory=dict)
    default: Annotated[EncoderConfig, ENCODERS.choice] = CompactConfig()
    width: Width = 96

    @model_validator(mode="after")
    def _no_several_within(self) -> SeveralConfig:
        for name in self.towers:
            MODALITIES.config(name)
        for encoder in (*self.towers.values(), self.default):
            if encoder.registered_name == SEVERAL:
                raise ValueError("a tower is of one modality; name its encoder")
        return self

    @property
    def reads_features(self) -> bool:
        return all(e.reads_features for e in (*self.towers.values(), self.default))

    @property
    def published(self) -> bool:
        return self.default.published or any(tower.published for tower in self.towers.values())

    def build(self, adapter: Adapter) -> SeveralEncoder:
        """UserError: towers of modalities that are not among the parts; as the towers' own."""
        assert isinstance(adapter, SeveralAdapter)
        foreign = sorted(set(self.towers) - set(adapter.parts))
        if foreign:
            raise UserError(
                f"encoder.towers: {', '.join(foreign)} stands in no part of the modality "
                f"({', '.join(adapter.parts)}); leave it out."
            )
        return SeveralEncoder(self, adapter)


class SeveralEncoder(nn.Module):
    """Rows (N, 1, L) of ``SeveralAdapter`` -> tokens and embeddings of their towers, (N, width)."""

    def __init__(self, config: SeveralConfig, adapter: SeveralAdapter) -> None:
        super().__init__()
        self.width, self.adapters = config.width, list(adapter.parts.values())
        self.towers = nn.ModuleDict()
        for name, part in adapter.parts.items():
            chosen = config.towers.get(name, config.default)
            encoder: Any = chosen.build(part)
            parts = {
                "front_end": chosen.front_end(part),
                "encoder": encoder,
                "projection": nn.Linear(encoder.width, config.width),
            }
            self.towers[name] = nn.ModuleDict(parts)

    def forward(self, features: Tensor, lengths: Tensor) -> Encoded:
        """Features (N, 1, L), lengths (N,) -> Encoded of width ``width``; a tower runs only where
        the batch has recordings of its modality.
        """
        rows, towers = features[:, 0], list(self.towers.values())
        found: list[tuple[Tensor, Encoded]] = []
        for number, at, batch in unpacked(rows, lengths, self.adapters):
            tower: Any = towers[number]
            read = tower["front_end"](batch)
            tokens, mask, pooled = tower["encoder"](read.values, read.lengths)
            project = tower["projection"]
            found.append((at, Encoded(project(tokens), mask, project(pooled))))
        count, longest = len(rows), max(e.tokens.shape[1] for _, e in found)
        first = found[0][1]
        tokens = first.tokens.new_zeros(count, longest, self.width)
        mask = first.mask.new_zeros(count, longest)
        pooled = first.pooled.new_zeros(count, self.width)
        for at, part in found:
            length = part.tokens.shape[1]
            tokens[at, :length], mask[at, :length], pooled[at] = part.tokens, part.mask, part.pooled
        return Encoded(tokens, mask, pooled)
