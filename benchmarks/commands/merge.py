"""What ``medley merge`` does: a fine-tuned model as a plain folder that needs no PEFT."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from benchmarks.commands.finetune.folder import readable
from benchmarks.results.model_folder import (
    CARD_FILE,
    ENCODER_FILE,
    HEAD_FILE,
    HERE,
    ModelFacts,
    located,
    open_model,
    write_facts,
    write_head,
)
from benchmarks.runs.workspace import check_writable
from multimodal.digests import write_tensors
from multimodal.encoders.lora import LoraConfig, LoraEncoder
from multimodal.encoders.plain import save_plain
from multimodal.encoders.pretrained import PretrainedConfig, PretrainedEncoder, weights_digest
from multimodal.errors import UserError
from multimodal.files import replacing_folder, sweep_beside
from multimodal.hub import local_folder

ADAPTER_NOTE = "merged by `medley merge`: no PEFT is needed"


def run_merge(model: Path, out: Path) -> None:
    """Write ``out`` and say how it is loaded. UserError: it exists, or there is no such model."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"--out {out}: exists and is not empty; name a new folder.")
    opened = open_model(model)
    check_writable(out.parent)
    facts = opened.facts
    config = located(facts.encoder, opened.folder)
    encoder: nn.Module = opened.model.encoder
    if isinstance(config, LoraConfig):
        assert isinstance(encoder, LoraEncoder)
        encoder, config = encoder.merge(), config.base
    sweep_beside(out)
    with replacing_folder(out) as made:
        changes: dict[str, Any] = {"target_modules": (), "adapter_digest": ""}
        if isinstance(encoder, PretrainedEncoder):
            assert isinstance(config, PretrainedConfig)
            save_plain(encoder, local_folder(config.checkpoint, config.revision), made)
            changes |= _at_home(facts, config, made)
        else:
            changes["encoder"] = config
            tensors = {f"encoder.{k}": t for k, t in encoder.state_dict().items()}
            front_end = opened.model.front_end.state_dict()
            write_tensors(
                made / ENCODER_FILE, tensors | {f"front_end.{k}": t for k, t in front_end.items()}
            )
        write_head(made / HEAD_FILE, opened.model.head)
        write_facts(made, facts.model_copy(update=changes))
        card = opened.folder / CARD_FILE
        told = card.read_text("utf-8") if card.is_file() else ""
        (made / CARD_FILE).write_text(merged_card(told), "utf-8")
        readable(made)
    _say(out, facts, isinstance(encoder, PretrainedEncoder))


def _at_home(facts: ModelFacts, config: PretrainedConfig, folder: Path) -> dict[str, Any]:
    """The facts of a folder that is its own checkpoint."""
    base = facts.base
    assert base is not None
    frozen = {"checkpoint": HERE, "revision": None, "train": "none"}
    own = {"checkpoint": HERE, "revision": None, "digest": weights_digest(folder)}
    return {
        "encoder": config.model_copy(update=frozen),
        "base": base.model_copy(update=own),
    }


def merged_card(card: str) -> str:
    """The model's card (perhaps "") without its part on files, which are others now."""
    before, _, rest = card.partition("## Files")
    _, mark, after = rest.partition("## Licences")
    return f"{before}## Files\n\nThe weights are {ADAPTER_NOTE}.\n\n{mark}{after}"


def _say(out: Path, facts: ModelFacts, plain: bool) -> None:
    if not plain:
        print(
            f"{out}: its encoder is no transformers model, so this is a folder of Medley's, for "
            "`medley predict` and init=FOLDER."
        )
        return
    place = f".{facts.base.within}" if facts.base is not None and facts.base.within else ""
    print(f'{out}: transformers.AutoModel.from_pretrained("{out}"){place}')
