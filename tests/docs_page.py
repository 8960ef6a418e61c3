"""The page docs/extending.md, cut into its blocks, a place where they run, a model for them."""

from __future__ import annotations

import importlib
import re
import shlex
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from benchmarks import cli
from benchmarks.config.base import CommandConfig
from multimodal.batch import Batch
from multimodal.registry import PLUGIN_VARIABLE

PAGE = Path(__file__).parents[1] / "docs" / "extending.md"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ROW = "benchmarks/cli/__init__.py"
TEXT = {"align.yaml": "text", "bench.yaml": "learners.0.text"}  # where a file has its text encoder


class Outcome(NamedTuple):
    """Exit code, standard output and standard error of a command."""

    code: object
    out: str
    err: str


class Section:
    """A section's blocks. files: their text by the name in their first line, of Python and YAML.

    commands: the words of each command with the lines that it prints, as far as the page shows
    them.
    """

    def __init__(self, heading: str) -> None:
        _, _, rest = PAGE.read_text("utf-8").partition(f"\n## {heading}\n")
        self.files: dict[str, str] = {}
        self.commands: list[tuple[list[str], list[str]]] = []
        for language, text in FENCE.findall(rest.partition("\n## ")[0]):
            if language == "console":
                self._add_commands(text)
            else:
                assert language in ("python", "yaml"), f"nothing runs a block of {language!r}"
                first = text.partition("\n")[0]
                assert re.fullmatch(r"# [\w/]+\.(py|yaml)", first), f"no file name: {first}"
                self.files[first[2:]] = text

    def _add_commands(self, text: str) -> None:
        for line in text.splitlines():
            if line.startswith("$ "):
                self.commands.append((shlex.split(line[2:]), []))
            else:
                self.commands[-1][1].append(line)

    @property
    def source(self) -> Path:
        """The section's one module."""
        (name,) = (name for name in self.files if name.endswith(".py") and name != ROW)
        return Path(name)


class Workshop:
    """A working folder with the recordings, where the blocks of a section run."""

    def __init__(self, folder: Path, text_checkpoint: Path, monkeypatch: Any, capsys: Any) -> None:
        self.folder, self.text = folder, text_checkpoint
        self.patch, self.capsys = monkeypatch, capsys
        self.imported: list[str] = []

    def write(self, section: Section, *, outside: bool) -> None:
        """The YAML files, and the module in its package or, outside, beside them."""
        source = section.source
        place = self.folder if outside else self.folder / "tree" / source.parent
        place.mkdir(parents=True, exist_ok=True)
        (place / source.name).write_text(section.files[str(source)])
        for name, text in section.files.items():
            if name.endswith(".yaml"):
                (self.folder / name).write_text(text)
        if outside:
            self.imported.append(source.stem)
            return
        package = importlib.import_module(".".join(source.parent.parts))
        self.patch.setattr(package, "__path__", [*package.__path__, str(place)])
        self.imported.append(f"{package.__name__}.{source.stem}")
        if ROW in section.files:
            exec(compile(section.files[ROW], ROW, "exec"), {**vars(cli)})

    def module(self) -> ModuleType:
        return importlib.import_module(self.imported[-1])

    def run(self, words: list[str]) -> Outcome:
        """``NAME=VALUE ... medley ...`` in this process."""
        start = words.index("medley")
        for setting in words[:start]:
            self.patch.setenv(*setting.split("=", 1))
        words = words[start:]
        if words[2] in TEXT:
            words = [*words, f"{TEXT[words[2]]}={{checkpoint: {self.text}, max_length: 16}}"]
        self.patch.setattr(sys, "argv", words)
        self.capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        return Outcome(stopped.value.code, *self.capsys.readouterr())

    def run_page(self, section: Section, *, outside: bool) -> None:
        """The commands of the page that are for this place; each must print what the page says."""
        own = [c for c in section.commands if c[0][0].startswith(PLUGIN_VARIABLE) == outside]
        assert own
        for words, expected in own:
            outcome = self.run(words)
            assert outcome.code == 0, outcome
            assert "\n".join(expected) in outcome.out, words

    def forget(self) -> None:
        """Nothing that was registered here is known to other tests."""
        for name in self.imported:
            module = sys.modules.pop(name, None)
            package, _, stem = name.rpartition(".")
            if package and hasattr(sys.modules[package], stem):
                delattr(sys.modules[package], stem)
            config = getattr(module, "CountConfig", CommandConfig)
            config.command = ""  # found as long as the class lives


class Scores(torch.nn.Module):
    """Cosines (3, 4) of three recordings, in place of an aligned classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.aligned = Scale()
        self.exposed = torch.tensor([True, False, True, False])
        self.cosines = torch.nn.Parameter(torch.linspace(-1, 1, 12).view(3, 4).sin())

    def all_scores(self, batch: Batch) -> Tensor:
        return self.cosines.repeat(len(batch) // 3, 1)


class Scale(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.log_scale = torch.nn.Parameter(torch.tensor(10.0).log())

    @property
    def scale(self) -> Tensor:
        return self.log_scale.exp()

    def clamp_scale(self) -> None:
        pass
