"""The config of ``medley align``, and of prompts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from benchmarks.config.base import SignalConfig, refuse_repeats
from benchmarks.runs.composed import ComposeConfig
from multimodal.encoders import ENCODERS
from multimodal.evaluation.prompt_sets import Pooling, PromptSets
from multimodal.evaluation.prompts import Prompts, load_prompts
from multimodal.modalities import MODALITIES
from multimodal.models.towers import Projection, TextTowerConfig
from multimodal.objectives import OBJECTIVES
from multimodal.registry import Config, Distinct
from multimodal.training.config import FitConfig

UPRIGHT = 45  # degrees up to which left stays left


class PromptSetsConfig(Config):
    """Prompts of findings that are drawn from words, of a dataset of cases.

    words: class -> axes of words; a prompt has one of each axis, e.g. ``{effusion: [["", small],
    [pleural effusion, fluid]]}``. drawn: prompts of a class in a set. seeds: of the sets; results
    are means over them. pooling: how a class's prompts become one score. negatives: class -> a
    prompt that denies it, against which it is weighed at ``temperature``. transductive: scores are
    standardised over the recordings of the test, and results say so.
    """

    words: dict[str, tuple[tuple[str, ...], ...]]
    drawn: int | None = Field(default=5, ge=1)
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = (1, 2, 3, 4, 5)
    pooling: Pooling = "mean_embedding"
    negatives: dict[str, str] = Field(default_factory=dict)
    temperature: float = Field(default=0.02, gt=0)
    transductive: bool = False

    @property
    def sets(self) -> PromptSets:
        fields = {name: getattr(self, name) for name in type(self).model_fields if name != "words"}
        return PromptSets(self.words, **fields)


class PromptsConfig(Config):
    """Where class names become texts.

    templates: a shipped file ("audio", "speech_intent", ...), the path of one, or None for that of
    the modality; the first template is the training-style one. phrases: likewise, of class phrases,
    or None for the class names. ensemble: classes are the mean of all templates, not the first.
    """

    templates: str | None = None
    phrases: str | None = None
    ensemble: bool = False

    def load(self, modality: str) -> Prompts:
        return load_prompts(self.templates or modality, self.phrases)


class CasePromptsConfig(PromptsConfig):
    """The same, and of a dataset of cases ``sets``: prompts that are drawn instead."""

    sets: PromptSetsConfig | None = Field(default=None, exclude_if=lambda sets: sets is None)

    def sets_for(self, modality: str, names: Sequence[str]) -> PromptSets:
        """As they are drawn, or one set of the templates' prompts of these classes."""
        if self.sets is not None:
            return self.sets.sets
        texts = self.load(modality).headline(ensemble=self.ensemble).texts(names)
        grids = {name: [own] for name, own in zip(names, texts, strict=True)}
        return PromptSets(grids, drawn=None, seeds=(0,))


class ViewConfig(Config):
    """One modality of a dataset of several: how its signals are read and encoded."""

    modality: Annotated[Config, MODALITIES.choice]
    encoder: Annotated[Config, ENCODERS.choice] = Field(default_factory=lambda: ENCODERS.parse({}))


class AlignConfig(SignalConfig):
    """Everything ``medley align`` needs; one run an objective and seed.

    objectives: what is trained. text: the text tower. width: of the joint space; None: the text
    encoder's own, without a projection of texts. projection: into it, of signals and (with a width)
    of texts: linear, or MoRE's head of two layers, whose norms go by the batch (as published) or by
    the layer. whiten: the projection of signals reads embeddings
    whitened by mean and covariance of all training recordings, without augmentation, counted before
    the first step and then fixed; takes a frozen encoder (encoder.train=none). captions: each
    recording goes with its own text (caption, report, transcript), or with a prompt of its class
    ("labels"). skip_uncaptioned: leave recordings without a text out (they are counted) instead of
    refusing to start. classes: train on recordings that have one of these, and score these; None:
    all. validation_fraction: of the training recordings, held out by group for early stopping.
    compose: train on scenes of the dataset's single events instead, with their captions, and score
    what of look-alike scenes is told apart; objectives compa_hard_negatives and compa_modular need
    it. No epoch is chosen by validation recordings: single events tell nothing of order, and scenes
    that are scored may be made of them. init: the run whose model training starts from, instead of
    anew: its folder, or the folder or name of an experiment, of which each seed takes the run of
    the same seed.
    quick: one epoch, of 500 scenes at most.
    views: of a dataset of cases (X-ray, ECG and report of a patient), its modalities by name, each
    with a tower of its own towards the report; then modality and encoder stay unset.
    """

    command: ClassVar[str] = "align"
    marker: ClassVar[str] = "objectives"

    objectives: tuple[Annotated[Config, OBJECTIVES.choice], ...]
    text: TextTowerConfig = TextTowerConfig()
    width: int | None = Field(default=None, ge=2)
    projection: Projection = Field(default="linear", exclude_if=lambda kind: kind == "linear")
    # Not in the record where it is off: runs from before it could be chosen keep their identity.
    whiten: bool = Field(default=False, exclude_if=lambda whiten: not whiten)
    captions: Literal["text", "labels"] = "text"
    skip_uncaptioned: bool = False
    prompts: CasePromptsConfig = CasePromptsConfig()
    classes: Distinct | None = None
    validation_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.0
    training: FitConfig = FitConfig()
    compose: ComposeConfig | None = Field(default=None, exclude_if=lambda scenes: scenes is None)
    init: str | None = Field(default=None, exclude_if=lambda init: init is None)
    views: dict[str, ViewConfig] = Field(default_factory=dict, exclude_if=lambda views: not views)

    @property
    def towers(self) -> dict[str, ViewConfig]:
        """By modality; of a dataset of one modality its only one."""
        own = ViewConfig(modality=self.modality, encoder=self.encoder)
        return self.views or {self.modality.registered_name: own}

    def dump(self) -> dict[str, Any]:
        data = super().dump()
        unused = ("modality", "encoder") if self.views else ()
        return {key: value for key, value in data.items() if key not in unused}

    @model_validator(mode="after")
    def _composed_alone(self) -> Self:
        others = {
            "views": bool(self.views),
            "classes": self.classes is not None,
            "captions": self.captions == "labels",
            "skip_uncaptioned": self.skip_uncaptioned,
            "validation_fraction": self.validation_fraction > 0,
            "training.patience": self.training.patience is not None,
            "training.batch.meanings": bool(self.training.batch and self.training.batch.meanings),
        }
        wrong = [name for name, given in others.items() if given]
        if self.compose is not None and wrong:
            raise ValueError(
                f"compose: scenes are of all classes and training recordings, have captions of "
                f"their own, and are trained on to the last epoch; leave out {', '.join(wrong)}"
            )
        return self

    @model_validator(mode="after")
    def _scenes_stay_what_captions_say(self) -> Self:
        """A change of training batches must not make captions false."""
        augment = getattr(self.modality, "augment", None)
        if self.compose is None or augment is None:
            return self
        changes = {"crop_seconds": getattr(augment, "crop_seconds", None)}
        if self.compose.composer.lexicon == "space":  # pyright: ignore[reportAttributeAccessIssue]
            turns = getattr(augment, "rotate_degrees", 0) > UPRIGHT
            changes |= {"flip": getattr(augment, "flip", False), "rotate_degrees": turns}
        wrong = [f"modality.augment.{name}" for name, on in changes.items() if on]
        if wrong:
            raise ValueError(
                f"compose: captions of scenes say when or where each event is, of which "
                f"{' and '.join(wrong)} makes them false; leave it out"
            )
        return self

    @model_validator(mode="after")
    def _augmented_where_views_are_asked_for(self) -> Self:
        lacking = [
            f"views.{name}.modality.augment" if self.views else "modality.augment"
            for name, view in self.towers.items()
            if getattr(view.modality, "augment", None) is None
        ]
        asking = [o for o in self.objectives if getattr(o, "augmented", 0)]
        if asking and lacking:
            raise ValueError(
                f"objectives: {asking[0].registered_name} takes {asking[0].augmented} augmented "  # pyright: ignore
                f"views of each signal; set {' and '.join(lacking)}, or choose clip"
            )
        return self

    @model_validator(mode="after")
    def _neighbours_of_one_modality(self) -> Self:
        if self.views and self.training.batch and self.training.batch.neighbours:
            raise ValueError(
                "training.batch.neighbours: are found among recordings of one modality; leave it "
                "out, or views"
            )
        return self

    @model_validator(mode="after")
    def _one_way_to_name_modalities(self) -> Self:
        if not self.views:
            if self.prompts.sets is not None:
                raise ValueError(
                    "prompts.sets: is for a dataset of cases (views); of one modality write the "
                    "words into files and name these in prompts.templates and prompts.phrases"
                )
            return self
        if {"modality", "encoder"} & self.model_fields_set and self._own_tower:
            raise ValueError("views: modality and encoder stand in each view; leave them out here")
        for name, view in self.views.items():
            if name != view.modality.registered_name:
                raise ValueError(
                    f"views.{name}: its modality is {view.modality.registered_name!r}; views are "
                    "named by their modality"
                )
        return self

    @property
    def _own_tower(self) -> bool:
        defaults = (MODALITIES.parse({}), ENCODERS.parse({}))
        return (self.modality, self.encoder) != defaults

    @field_validator("objectives", "seeds")
    @classmethod
    def _some_and_no_repeats(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        return refuse_repeats(values)
