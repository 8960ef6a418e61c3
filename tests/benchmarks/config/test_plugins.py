"""Plug-ins stand in config and result with a digest of their source; a changed one is refused."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from benchmarks.commands.bench.cells import Cells
from benchmarks.commands.bench.config import RunConfig
from benchmarks.config import plugins
from benchmarks.config.loading import load_config, validate
from benchmarks.config.plugins import plugins_of, source_digest
from continual.learner import LEARNERS
from multimodal.errors import UserError
from tests.toy import toy_data

SOURCE = '''
from continual.learner import LEARNERS
from continual.learners.finetune import FinetuneConfig

@LEARNERS.register("plugged")
class PluggedConfig(FinetuneConfig):
    """A learner from outside."""
'''


@pytest.fixture
def plugin(tmp_path, monkeypatch) -> Iterator[Path]:
    """The file of an imported plug-in, which is forgotten afterwards."""
    LEARNERS.names()
    file = tmp_path / "medley_plugged.py"
    file.write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(LEARNERS, "_configs", dict(LEARNERS._configs))
    source_digest.cache_clear()
    __import__("medley_plugged")
    yield file
    sys.modules.pop("medley_plugged")
    source_digest.cache_clear()


def changed(plugin: Path) -> None:
    """As a new process would find it."""
    plugin.write_text(SOURCE + "# another one\n")
    source_digest.cache_clear()


def config(tmp_path: Path, *learners: str) -> RunConfig:
    data = toy_data(learners=list(learners), output_dir=str(tmp_path / "runs"), quick=True)
    return validate(RunConfig, data, source="toy")


def test_of_what_ships_there_is_none() -> None:
    shipped = load_config(Path("bench/fsdd_si_blurry"), model=RunConfig)
    assert plugins_of(shipped) == {}
    assert "plugins" not in shipped.dump()


def test_a_digest_is_of_the_file_s_bytes(plugin, tmp_path) -> None:
    told = hashlib.sha256(b"medley_plugged.py\n" + hashlib.sha256(plugin.read_bytes()).digest())
    found = config(tmp_path, "plugged").dump()["plugins"]
    assert found["medley_plugged"] == told.hexdigest()[:12]


def test_a_package_counts_with_all_its_files(tmp_path, monkeypatch) -> None:
    (tmp_path / "medley_many").mkdir()
    for name in ("__init__.py", "part.py"):
        (tmp_path / "medley_many" / name).write_text("x = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    __import__("medley_many")
    digests = set()
    for text in ("x = 1\n", "x = 2\n"):
        (tmp_path / "medley_many" / "part.py").write_text(text)
        source_digest.cache_clear()
        digests.add(source_digest("medley_many"))
    assert len(digests) == 2
    assert source_digest("no_such_module") == plugins.UNKNOWN
    sys.modules.pop("medley_many")


def test_only_the_cells_that_use_it_tell_it(plugin, tmp_path) -> None:
    own, other = config(tmp_path, "plugged", "finetune").cells()
    (alone,) = config(tmp_path, "finetune").cells()
    assert "medley_plugged" in own.dump()["plugins"]
    assert "medley_plugged" not in other.dump().get("plugins", {})
    assert other.hash == alone.hash


def test_a_changed_source_is_refused_where_a_run_was_begun(plugin, tmp_path) -> None:
    grid = config(tmp_path, "plugged")
    result = Cells(grid).run_cell(0)
    digest = result.config["plugins"]["medley_plugged"]
    assert result.inputs is not None
    assert result.inputs["plugin.medley_plugged"] == digest
    (cell,) = grid.cells()
    kept = cell.folder / "config.yaml"
    assert yaml.safe_load(kept.read_text())["plugins"]["medley_plugged"] == digest
    assert Cells(grid).done[0] is not None
    load_config(kept, model=RunConfig)
    changed(plugin)
    with pytest.raises(UserError, match=rf"plugin.medley_plugged {digest}, now .*--fresh"):
        Cells(grid)
    with pytest.raises(UserError, match=r"has changed since .* leave plugins.medley_plugged out"):
        load_config(kept, model=RunConfig)
    kept.with_name("free.yaml").write_text(
        yaml.safe_dump(
            {k: v for k, v in yaml.safe_load(kept.read_text()).items() if k != "plugins"}
        )
    )
    assert load_config(kept.with_name("free.yaml"), model=RunConfig).hash == cell.hash
    assert Cells(grid, fresh=True).done == [None]


def test_runs_of_earlier_versions_are_taken_as_they_are(plugin, tmp_path) -> None:
    from benchmarks.runs.inputs import refuse_changed_inputs

    refuse_changed_inputs(tmp_path, {}, {"plugin.medley_plugged": "new"})
    with pytest.raises(UserError, match="medley_plugged"):
        refuse_changed_inputs(tmp_path, {"plugin.medley_plugged": "old"}, {})
