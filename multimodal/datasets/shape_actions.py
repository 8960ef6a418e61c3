"""Coloured shapes that move: 135 clips of three actions (Apache 2.0)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar

from multimodal.datasets import DATASETS, DatasetConfig
from multimodal.datasets.folder import entries, wrong_folder
from multimodal.datasets.splits import refuse_held_out
from multimodal.errors import UserError
from multimodal.recordings import Manifest, Recording

ACTIONS = ("circular", "horizontal", "vertical")
PHRASES = ("moving in a circle", "moving from side to side", "moving up and down")
NAME = re.compile(r"([a-z_]+)_([a-z]+)_([0-9]+)\.mp4")
EXPECTED = "a folder actions/ with the folders circular/, horizontal/ and vertical/"
COLOURS, CLIPS = 3, 45


@DATASETS.register("shape_actions")
class ShapeActionsConfig(DatasetConfig):
    """``actions/{action}/{colour}_{shape}_{n}.mp4``; the class is the action.

    The release has no split: all clips of ``test_colours`` (names as in the files) are the test
    split, so no colour stands on both sides; the group is the colour. Texts say colour, shape and
    action, e.g. "a purple star moving up and down": of a colour's name in two words only the last
    is kept.
    """

    folder: ClassVar[str] = "shape_actions"
    modalities: ClassVar[tuple[str, ...]] = ("video",)
    summary: ClassVar[str] = "coloured shapes: 3 actions, 3 colours, 3 shapes, 135 clips of 2 s"
    licence: ClassVar[str] = "Apache-2.0"
    how_to_get: ClassVar[str] = "Get colored-shape-action-dataset and keep its folder actions/."

    test_colours: tuple[str, ...] = ("darkish_purple",)

    def build(self, root: Path) -> Manifest:
        """UserError for a file with another name, or colours that cannot be held out."""
        entries(root, EXPECTED)
        if not all((root / "actions" / action).is_dir() for action in ACTIONS):
            raise wrong_folder(root, EXPECTED)
        rows = []
        for label, action in enumerate(ACTIONS):
            for path in entries(root / "actions" / action, "files such as bluegreen_star_1.mp4"):
                match = NAME.fullmatch(path.name)
                if match is None:
                    raise UserError(
                        f"{path}: not a clip of shape_actions; expected names such as "
                        "bluegreen_star_1.mp4 ({colour}_{shape}_{n}.mp4); move other files away."
                    )
                rows.append((path, label, match[1], match[2]))
        colours = sorted({colour for _, _, colour, _ in rows})
        refuse_held_out(
            "test_colours", self.test_colours, colours, kind="colour", empty="it names no colour"
        )
        return Manifest(
            name="shape_actions",
            modality="video",
            class_names=ACTIONS,
            recordings=tuple(
                Recording(
                    uid=path.relative_to(root).as_posix(),
                    labels=(label,),
                    split="test" if colour in self.test_colours else "train",
                    path=path,
                    group=colour,
                    text=f"a {colour.rpartition('_')[2]} {shape} {PHRASES[label]}",
                )
                for path, label, colour, shape in rows
            ),
            version=f"unnamed release: {len(rows)} clips, {len(colours)} colours",
            licence=self.licence,
            citation="colored-shape-action-dataset",
            split_rule=f"colours held out for test: {', '.join(sorted(set(self.test_colours)))}",
            root=root,
        )

    def expected_counts(self) -> dict[str, int]:
        """Clips per split of the full set: 45 of each of 3 colours."""
        test = len(set(self.test_colours))
        return {"train": (COLOURS - test) * CLIPS, "test": test * CLIPS}
