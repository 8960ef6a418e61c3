"""LoRA (Hu et al., arXiv:2106.09685) around any encoder, by the library PEFT.

A linear layer with weight W (out, in) answers W x + (alpha / rank) B A x, where only A (rank, in)
and B (out, rank) are trained. B begins at zero, so the wrapped encoder begins as its base. Two
variants: rsLoRA (Kalajdzievski, arXiv:2312.03732) scales by alpha / sqrt(rank), and DoRA (Liu et
al., arXiv:2402.09353) also trains the norm of each row of W + (alpha / rank) B A.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator
from torch import Tensor, nn

from multimodal.batch import Encoded
from multimodal.encoders import ENCODERS, Encoder, EncoderConfig
from multimodal.encoders.pretrained import PretrainedEncoder
from multimodal.errors import UserError
from multimodal.modalities import Adapter

# What architectures call the query and value (or fused) projections of attention.
_ATTENTION = {"q", "v", "query", "value", "q_proj", "v_proj", "q_lin", "v_lin", "qkv", "Wqkv"}
# They read their layers' weights without calling the layers: an update would be ignored.
_DIRECT = {"MultiheadAttention", "WavLMAttention"}
_FILES = ("adapter_config.json", "adapter_model.safetensors")
_START = "base_model.model."  # PEFT's, before the names of the base


@ENCODERS.register("lora")
class LoraConfig(EncoderConfig):
    """base: the encoder that is wrapped; of it, nothing is trained.

    method: LoRA or one of its variants, see the head of this module. rank: r of A and B. alpha: the
    update is scaled by alpha / rank (rslora: its root). dropout: of the update's input, in
    training. The defaults are MoRE's (Thapa et al., arXiv:2410.16239, in its authors' code).
    target_modules: ends of the names of the linear layers to adapt, such as "query" or
    "attention.output.dense". None: PEFT's choice for the model type if it has one; else the
    attention's query and value layers; else (compact and WavLM, whose attention reads weights
    without calling its layers) all linear layers outside the attention.
    """

    base: Annotated[EncoderConfig, ENCODERS.choice]
    rank: int = Field(default=16, ge=1, le=4096)
    alpha: float = Field(default=8.0, gt=0, allow_inf_nan=False)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    target_modules: tuple[str, ...] | None = Field(default=None, min_length=1)
    # Not in the record where it is the first one: earlier configs keep their identity.
    method: Literal["lora", "rslora", "dora"] = Field(
        default="lora", exclude_if=lambda method: method == "lora"
    )

    @model_validator(mode="after")
    def _frozen_base(self) -> Self:
        if isinstance(self.base, LoraConfig):
            raise ValueError("base: lora around lora; give the inner encoder")
        # The default of compact, all, says nothing of what a user wants trained here.
        field = type(self.base).model_fields.get("train")
        if field is not None and self.base.train not in ("none", field.default):  # pyright: ignore
            raise ValueError("base.train must be none: only the LoRA weights are trained")
        return self

    @property
    def published(self) -> bool:
        return self.base.published

    def front_end(self, adapter: Adapter) -> nn.Module:
        """The base's."""
        return self.base.front_end(adapter)

    @property
    def reads_features(self) -> bool:
        return self.base.reads_features

    def build(self, adapter: Adapter) -> LoraEncoder:
        """UserError: as the base's, and for names in ``target_modules`` that it has not."""
        return self.wrap(self.base.build(adapter))

    def wrap(self, base: Encoder) -> LoraEncoder:
        """Around a base that was built before, and has perhaps got other weights since."""
        return LoraEncoder(
            base,
            rank=self.rank,
            alpha=self.alpha,
            dropout=self.dropout,
            target_modules=self.target_modules,
            method=self.method,
        )


class LoraEncoder(nn.Module):
    """``base`` (which is changed in place) with trainable low-rank updates, and nothing else.

    In training mode, too, the base stays in eval mode; only the updates' dropout is active.
    """

    def __init__(
        self,
        base: Encoder,
        *,
        rank: int = 16,
        alpha: float = 8.0,
        dropout: float = 0.1,
        target_modules: Sequence[str] | None = None,
        method: Literal["lora", "rslora", "dora"] = "lora",
    ) -> None:
        import peft

        assert isinstance(base, nn.Module)
        super().__init__()
        self.width = base.width
        names = _default_targets(base) if target_modules is None else list(target_modules)
        _refuse_unknown(base, names)
        config = peft.LoraConfig(
            r=rank,
            lora_alpha=alpha,  # pyright: ignore[reportArgumentType]
            lora_dropout=dropout,
            target_modules=names,
            bias="none",
            use_rslora=method == "rslora",
            use_dora=method == "dora",
        )
        # transformers' model within a wrapper of ours: its own names are those that others know.
        self._own = "model." if isinstance(base, PretrainedEncoder) else ""
        self.peft = peft.get_peft_model(base, config)  # pyright: ignore[reportArgumentType]
        # In eval mode, torch hands these layers' weights to a fused kernel that knows no update.
        self._fused = [m for m in self.modules() if isinstance(m, nn.TransformerEncoderLayer)]
        self._activations = [layer.activation_relu_or_gelu for layer in self._fused]
        for layer in self._fused:
            layer.activation_relu_or_gelu = 0
        self.train()

    def train(self, mode: bool = True) -> LoraEncoder:
        super().train(False)
        self.training = mode
        for module in self.modules():
            if isinstance(dropouts := getattr(module, "lora_dropout", None), nn.ModuleDict):
                dropouts.train(mode)
        return self

    def forward(self, features: Tensor, lengths: Tensor) -> Encoded:
        """As the base."""
        return self.peft(features, lengths)

    @property
    def targets(self) -> list[str]:
        """The adapted layers, named as the base (of a checkpoint: transformers' model) does."""
        start = _START + self._own
        names = [n for n, m in self.peft.named_modules() if hasattr(m, "lora_A")]
        return [name.removeprefix(start) for name in names]

    def save_adapter(
        self, folder: Path, *, base: str | None = None, revision: str | None = None
    ) -> None:
        """Write A, B and their settings as PEFT does (safetensors); the base is not written.

        The names are those of the base itself, of a checkpoint those of transformers' model, so
        that plain ``peft.PeftModel.from_pretrained(model, folder)`` reads it. base, revision: the
        checkpoint's name there, for PEFT's settings.
        """
        from safetensors.torch import save_file

        settings: Any = copy(self.peft.peft_config["default"])
        settings.target_modules, settings.inference_mode = self.targets, True
        settings.base_model_name_or_path, settings.revision = base, revision
        settings.auto_mapping = None
        folder.mkdir(parents=True, exist_ok=True)
        settings.save_pretrained(str(folder))
        weights = {k: w.detach().cpu().contiguous() for k, w in self._adapter().items()}
        save_file(weights, folder / _FILES[1], {"format": "pt"})

    def load_adapter(self, folder: Path) -> None:
        """Read what ``save_adapter`` wrote; UserError if it is missing or of another shape."""
        from peft import PeftConfig, set_peft_model_state_dict
        from safetensors.torch import load_file

        for name in _FILES:
            if not (folder / name).is_file():
                raise UserError(f"{folder}: no {name}; name a folder that save_adapter wrote.")
        try:
            saved: Any = PeftConfig.from_pretrained(str(folder))
            weights = load_file(folder / _FILES[1])
        except Exception as error:  # PEFT hands settings of any type on
            words = " ".join(str(error).split())[:200]
            raise UserError(f"{folder}: damaged adapter ({words}); save it again.") from error
        mine: Any = self.peft.peft_config["default"]
        for setting in ("r", "lora_alpha", "use_rslora", "use_dora"):
            then, now = getattr(saved, setting, None), getattr(mine, setting)
            if then != now:
                raise UserError(
                    f"{folder}: the adapter was saved with {setting}={then}, the encoder has "
                    f"{now}; set method, rank and alpha as they were."
                )
        wanted = self._adapter()
        # Earlier versions wrote the names that our wrapper gives the layers.
        longer = _START + self._own
        weights = {
            _START + k.removeprefix(longer).removeprefix(_START): w for k, w in weights.items()
        }
        if {k: w.shape for k, w in weights.items()} != {k: w.shape for k, w in wanted.items()}:
            raise UserError(
                f"{folder}: the adapter belongs to another encoder or other target_modules "
                f"({_names(list(weights))}, not {_names(list(wanted))}); give the same base."
            )
        own = {longer + k.removeprefix(_START): w for k, w in weights.items()}
        set_peft_model_state_dict(self.peft, own)

    def base_state(self) -> dict[str, Tensor]:
        """The base's own weights and buffers, named as before it was wrapped."""
        start = f"peft.{_START}"
        return {
            name.removeprefix(start).replace(".base_layer.", "."): tensor
            for name, tensor in self.state_dict().items()
            if ".lora_" not in name
        }

    def _adapter(self) -> dict[str, Tensor]:
        """What is trained, under the names that PEFT would give it on the plain base."""
        from peft import get_peft_model_state_dict

        state = get_peft_model_state_dict(self.peft, save_embedding_layers=False)
        longer = _START + self._own
        return {_START + name.removeprefix(longer): tensor for name, tensor in state.items()}

    def merge(self) -> nn.Module:
        """The base with W + (alpha / rank) B A as its weights; this wrapper is used up."""
        merged = self.peft.merge_and_unload()  # pyright: ignore[reportCallIssue]
        for layer, activation in zip(self._fused, self._activations, strict=True):
            layer.activation_relu_or_gelu = activation
        return merged


def linear_layers(encoder: nn.Module) -> list[str]:
    """Names of the linear layers that can be adapted: those that the forward pass calls."""
    direct = [n for n, m in encoder.named_modules() if type(m).__name__ in _DIRECT]
    return [
        name
        for name, module in encoder.named_modules()
        if isinstance(module, nn.Linear) and not any(name.startswith(f"{d}.") for d in direct)
    ]


def _default_targets(encoder: nn.Module) -> list[str]:
    from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as BY_TYPE

    ends = sorted({name.rsplit(".", 1)[-1] for name in linear_layers(encoder)})
    config = getattr(getattr(encoder, "model", None), "config", None)
    known = BY_TYPE.get(getattr(config, "model_type", ""))
    # PEFT's table may use the names of an older transformers.
    if isinstance(known, list) and set(known) <= set(ends):
        return known
    return [end for end in ends if end in _ATTENTION] or ends


def _refuse_unknown(encoder: nn.Module, targets: list[str]) -> None:
    """UserError unless each target is the end of the names of adaptable layers only."""
    names, adaptable = [n for n, _ in encoder.named_modules()], set(linear_layers(encoder))
    for target in targets:
        found = {n for n in names if n == target or n.endswith(f".{target}")}
        if not found or not found <= adaptable:
            ends = sorted({n.rsplit(".", 1)[-1] for n in adaptable})
            raise UserError(
                f"encoder.target_modules: {target!r} is not a linear layer of the base that can be "
                f"adapted. Valid: {', '.join(ends) or '(none)'}; or longer ends of their names."
            )


def _names(keys: list[str]) -> str:
    """The adapted layers' last names, as in "query, value"."""
    return ", ".join(sorted({key.split(".lora_")[0].rsplit(".", 1)[-1] for key in keys})) or "none"
