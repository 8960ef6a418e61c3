"""Model folders that others made: refused in one line, nothing fetched, nothing run."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from multimodal.encoders.checkpoint_files import checked_config
from multimodal.encoders.pretrained import PretrainedConfig
from multimodal.errors import UserError
from multimodal.modalities.text import TextConfig, load_tokenizer
from multimodal.modalities.xray import XrayConfig
from tests.multimodal.encoders.checkpoints import (
    batch_of,
    save_image_checkpoint,
    save_text_checkpoint,
)

XRAY = XrayConfig(size=32).build()


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vit")
    save_image_checkpoint(folder, "vit")
    return folder


@pytest.fixture
def folder(vit: Path, tmp_path: Path) -> Path:
    shutil.copytree(vit, tmp_path / "model")
    return tmp_path / "model"


def changed(folder: Path, file: str = "config.json", **settings: Any) -> Path:
    path = folder / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))
    return folder


def opened(folder: Path) -> str:
    """What is said against the folder; "" if an encoder and its front end were made."""
    config, words = PretrainedConfig(checkpoint=str(folder)), ""
    try:
        config.front_end(XRAY)
        config.build(XRAY)
    except UserError as error:
        words = str(error)
    assert "\n" not in words
    return words


def test_the_folder_that_is_changed_here_is_whole(folder: Path) -> None:
    assert opened(folder) == ""


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"_attn_implementation": "kernels-community/flash-attn2"}, "compiled code from elsewhere"),
        ({"attn_implementation": "someone/kernel:entry"}, "compiled code from elsewhere"),
        ({"attn_implementation": {"": "flash_attention_2"}}, "compiled code from elsewhere"),
        ({"_attn_implementation_internal": "a/b"}, "compiled code from elsewhere"),
        ({"text_config": {"_attn_implementation": "a/b"}}, "compiled code from elsewhere"),
        ({"use_kernels": True}, "compiled code from elsewhere"),
        ({"quantization_config": {"quant_method": "bitsandbytes"}}, "quantised"),
        ({"transformers_weights": "../x.safetensors"}, "names other files"),
        ({"num_attention_heads": 0}, "no number of 1 to 1,000"),
        ({"num_attention_heads": [2]}, ""),
        ({"num_hidden_layers": 10**9}, "no number of 0 to 1,000"),
        ({"num_hidden_layers": "3"}, "no number of 0 to 1,000"),
        ({"hidden_size": 10**6}, "a width of 1,000,000 in 3 layers"),
        ({"hidden_size": [32]}, ""),
        ({"hidden_act": "x"}, ""),
        ({"model_type": ["vit"]}, "no encoder for model type"),
        ({"image_size": {"a": 1}}, ""),
        ({"id2label": [1, 2]}, ""),
    ],
)
def test_settings_that_harm_are_refused(folder: Path, settings: dict, words: str) -> None:
    found = opened(changed(folder, **settings))
    assert words in found
    assert found or settings == {"id2label": [1, 2]}


@pytest.mark.parametrize("asked", ["eager", "sdpa"])
def test_attention_that_is_here_is_as_it_was(folder: Path, asked: str) -> None:
    model: Any = PretrainedConfig(checkpoint=str(changed(folder, _attn_implementation=asked)))
    assert model.build(XRAY).model.config._attn_implementation == asked


@pytest.mark.parametrize(
    "name", ["../model.safetensors", "pytorch_model.bin", "/etc/passwd", "a\\b.safetensors", 3]
)
def test_an_index_that_names_pickles_or_other_places(folder: Path, name: Any) -> None:
    index = {"metadata": {}, "weight_map": {"a": name}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "which is no *.safetensors file beside it" in opened(folder)


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, "1" * 5_000, '{"a": NaN', "\x00"])
@pytest.mark.parametrize("file", ["config.json", "preprocessor_config.json"])
def test_files_that_are_no_json(folder: Path, file: str, text: str) -> None:
    (folder / file).write_text(text)
    assert opened(folder)


def test_an_adapter_is_no_model(folder: Path) -> None:
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "someone/model"}')
    assert "holds an adapter" in opened(folder)


@pytest.mark.parametrize("text", ["{}", "[]", '{"model": []}', '{"version": "1.0", "model": {}}'])
def test_tokenizers_that_are_none(tmp_path: Path, text: str) -> None:
    save_text_checkpoint(tmp_path, "bert")
    (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(UserError, match=r"^tokenizer '.*'"):
        load_tokenizer(str(tmp_path))


def test_a_plain_config_is_given_back(vit: Path) -> None:
    assert checked_config("x", vit) == json.loads((vit / "config.json").read_text())


# ---- many ---------------------------------------------------------------------------------------

VALUES: tuple[Any, ...] = (0, -1, 10**12, 1.5, "", "x", [], [1], {}, {"a": []}, None, True)


def hostile(folder: Path, chance: random.Random) -> None:
    """Some settings of some files exchanged, keys lost, or bytes of the weights changed."""
    for _ in range(chance.randint(1, 3)):
        file = chance.choice(sorted(p for p in folder.iterdir() if p.is_file()))
        if file.suffix != ".json":
            data = bytearray(file.read_bytes())
            at = chance.randrange(min(len(data), 4_000))
            data[at : at + 2] = chance.choice([b"\xff\xff", b"\0\0", b"", b'"{'])
            file.write_bytes(data)
            continue
        try:
            settings = json.loads(file.read_text())
        except ValueError:
            continue
        if not isinstance(settings, dict) or not settings:
            continue
        key = chance.choice(sorted(settings))
        if chance.random() < 0.2:
            del settings[key]
        else:
            settings[key] = chance.choice(VALUES)
        file.write_text(chance.choice([json.dumps(settings), json.dumps([settings])]))


@pytest.mark.slow
@pytest.mark.parametrize("number", range(40))
def test_random_image_folders(folder: Path, number: int) -> None:
    hostile(folder, random.Random(f"image {number}"))
    opened(folder)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(40))
def test_random_text_folders(tmp_path: Path, number: int) -> None:
    import torch

    save_text_checkpoint(tmp_path, "bert")
    hostile(tmp_path, random.Random(f"text {number}"))
    words = ""
    try:
        adapter = TextConfig(tokenizer=str(tmp_path), max_length=8).build()
        config = PretrainedConfig(checkpoint=str(tmp_path))
        front_end, encoder = config.front_end(adapter), config.build(adapter)
        features = front_end(batch_of(torch.ones(2, 4, dtype=torch.int64), torch.tensor([4, 4])))
        assert encoder(*features).pooled.shape[0] == 2
    except UserError as error:
        words = str(error)
    assert "\n" not in words


HONEST: dict[str, Any] = {
    "of transformers 4.46 to 4.52": {"_attn_implementation_autoset": True},
    "nothing pruned": {"pruned_heads": {}},
    "something pruned": {"pruned_heads": {"1": [0, 2]}},
    "classes named after parts": {"label2id": {"talking_heads": 0, "two_layers": 1200}},
    "layers that are shared": {"share_encoder_layers": True},
    "layers by their kind": {"attention_layers": ["global", "local"]},
    "a section": {"text_config": {"pruned_heads": {}, "num_hidden_layers": 12}},
    "nothing said": {"num_key_value_heads": None},
}


@pytest.mark.parametrize("more", HONEST.values(), ids=HONEST)
def test_honest_settings_are_taken(tmp_path, more: dict[str, Any]) -> None:
    config = {"model_type": "bert", "hidden_size": 768, "num_hidden_layers": 12, **more}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes(bytes(2**20))
    (tmp_path / "gone.safetensors").symlink_to(tmp_path / "nowhere")
    assert checked_config("x", tmp_path) == config


@pytest.mark.parametrize("more", [{"use_kernels": True}, {"num_hidden_layers": "twelve"}])
def test_others_are_not(tmp_path, more: dict[str, Any]) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", **more}))
    with pytest.raises(UserError, match=next(iter(more))):
        checked_config("x", tmp_path)
