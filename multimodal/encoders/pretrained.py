"""Encoders of transformers checkpoints, with the checkpoint's own features.

Which architectures there are, and how each is fed and read, is in ``families``. Nothing is run
from a checkpoint: no remote code, no pickled weights.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field
from torch import Tensor, nn

from multimodal.batch import Encoded
from multimodal.encoders import ENCODERS, EncoderConfig
from multimodal.encoders.checkpoint_files import checked_config, checkpoint_faults
from multimodal.encoders.families import Family, family_of, keep_blocks, load_processor
from multimodal.errors import UserError
from multimodal.hub import local_folder
from multimodal.modalities import Adapter


@ENCODERS.register("pretrained")
class PretrainedConfig(EncoderConfig):
    """The encoder of a checkpoint.

    checkpoint: a folder, a name on the hub, packaged-minilm or packaged-whisper-tiny-en. revision:
    the commit of a hub name, 40 hexadecimal digits. layer: the transformer block that is read, 1
    for the first; blocks behind it are not computed (None: the last, and what follows it). pooling:
    the mean of the real tokens, special ones included, or the first token ("cls"); "auto" is what
    the architecture's authors use. window: of Whisper, which was trained on 30 s, shorter
    recordings followed by silence: "whole" computes all 30 s, "cut" ends with the recording, which
    costs what it lasts and gives other embeddings. train: nothing, everything, or only the last so
    many transformer blocks (of those that are computed) and what follows them.

    Whisper, AST and CLAP read windows (30 s, mostly 10 s). Longer recordings are read window after
    window, and the embedding is of the real tokens of all; modality.seconds (of speech:
    max_seconds) keeps only a part.
    """

    checkpoint: str
    revision: str | None = Field(default=None, pattern="^[0-9a-f]{40}$")
    layer: int | None = Field(default=None, ge=1)
    pooling: Literal["auto", "mean", "cls"] = "auto"
    window: Literal["whole", "cut"] = "whole"
    train: Literal["none", "all"] | Annotated[int, Field(ge=1)] = "none"

    @property
    def published(self) -> bool:
        return True

    def front_end(self, adapter: Adapter) -> nn.Module:
        """``forward(batch: Batch) -> Features``, equal to the checkpoint's own extractor."""
        folder, family, config = self._opened(adapter)
        with checkpoint_faults(self.checkpoint, folder):
            return family.front_end(folder, config, adapter)

    def build(self, adapter: Adapter) -> PretrainedEncoder:
        """UserError: no such checkpoint, another modality's, no safetensors, too many layers."""
        folder, family, config = self._opened(adapter)
        refuse_pickles(self.checkpoint, folder)
        with checkpoint_faults(self.checkpoint, folder):
            model = family.load(folder, config)
            if self.layer is not None:
                keep_blocks(model, family, self.layer)
            return PretrainedEncoder(
                model,
                family,
                width=family.width(config),
                pooling=family.pooling if self.pooling == "auto" else self.pooling,
                train=self.train,
            )

    def _opened(self, adapter: Adapter) -> tuple[Path, Family, Any]:
        """The checkpoint's folder, family and transformers config."""
        folder = local_folder(self.checkpoint, self.revision)
        family, config = read_config(self.checkpoint, folder)
        modality = getattr(getattr(adapter, "config", None), "registered_name", "")
        if modality not in family.modalities:
            raise UserError(
                f"checkpoint {self.checkpoint!r} ({config.model_type}) reads "
                f"{' or '.join(family.modalities)}, not modality {modality!r}."
            )
        if self.window == "cut":
            if family.cut is None:
                raise UserError(
                    f"encoder.window=cut: checkpoint {self.checkpoint!r} ({config.model_type}) "
                    "has no such form, only whisper; leave it out."
                )
            family = family.cut
        return folder, family, config


class PretrainedEncoder(nn.Module):
    """(N, ...) features of the family's front end -> Encoded; embeddings ignore padding.

    Parameters that are not trained need no gradient, and their modules stay in eval mode (no
    dropout) when the encoder is put into training mode. ``layers``: the transformer blocks.
    """

    def __init__(
        self,
        model: nn.Module,
        family: Family,
        *,
        width: int,
        pooling: Literal["mean", "cls"],
        train: Literal["none", "all"] | int = "none",
    ) -> None:
        super().__init__()
        self.model, self.width, self.pooling = model, width, pooling
        self._family, self._train = family, train
        if isinstance(train, int) and train > len(self.layers):
            raise UserError(
                f"encoder.train={train}: the checkpoint has only {len(self.layers)} layers; set at "
                f"most encoder.train={len(self.layers)}, or all."
            )
        self.requires_grad_(False)
        for module in self._trained():
            module.requires_grad_(True)
        self.train()

    @property
    def layers(self) -> list[nn.Module]:
        return self._family.layers(self.model)

    @property
    def tail(self) -> list[nn.Module]:
        """What comes behind the last block."""
        return self._family.tail(self.model)

    def train(self, mode: bool = True) -> PretrainedEncoder:
        super().train(False)
        self.training = mode
        for module in self._trained():
            module.train(mode)
        return self

    def forward(self, features: Tensor, lengths: Tensor) -> Encoded:
        """features: (N, ...), lengths: (N,), both as the family's front end makes them."""
        tokens_nld, mask_nl = self._family.forward(self.model, features, lengths)
        if self.pooling == "cls":
            return Encoded(tokens_nld, mask_nl, tokens_nld[:, 0])
        real = tokens_nld.masked_fill(~mask_nl[:, :, None], 0)
        count = mask_nl.sum(1, keepdim=True).clamp(min=1)
        return Encoded(tokens_nld, mask_nl, real.sum(1) / count)

    def _trained(self) -> list[nn.Module]:
        if not isinstance(self._train, int):
            return [self.model] if self._train == "all" else []
        return self.layers[-self._train :] + self.tail


def read_config(checkpoint: str, folder: Path) -> tuple[Family, Any]:
    """The family and the transformers config of a checkpoint; UserError if there is none."""
    from transformers import AutoConfig

    model_type = checked_config(checkpoint, folder).get("model_type", "")
    family = family_of(str(model_type)[:200], checkpoint)
    return family, load_processor(AutoConfig, folder, "config.json")


def refuse_pickles(checkpoint: str, folder: Path) -> None:
    """UserError unless the weights are safetensors."""
    if not any(folder.glob("*.safetensors")):
        raise UserError(
            f"checkpoint {checkpoint!r}: {folder} has no *.safetensors, and pickled weights "
            "(pytorch_model.bin) are not opened. Convert them once, if you trust their source: "
            f'python -c "from transformers import AutoModel as M; d = {str(folder)!r}; '
            'M.from_pretrained(d).save_pretrained(d)"'
        )


def weights_digest(folder: Path) -> str:
    """16 hex digits over the weights' files."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()[:16]
