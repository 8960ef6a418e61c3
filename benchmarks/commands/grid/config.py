"""The config of ``medley grid``."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import Field, field_validator, model_validator

from benchmarks.config.base import FileConfig, refuse_repeats
from benchmarks.launchers import LAUNCHERS
from multimodal.registry import Config

Values = Annotated[tuple[Any, ...], Field(min_length=1)]
Keys = dict[str, Any]
Metric = Literal[
    "accuracy",
    "macro_auroc",
    "zero_shot_top1",
    "mean_average_precision",
    "map_at_10",
    "recall_at_10",
]
METRICS: tuple[Metric, ...] = get_args(Metric)


class SelectConfig(Config):
    """Choose values of settings by validation recordings, then report the test of what was chosen.

    among: keys of ``product``, ``zip`` or ``cells`` whose values are tried; cells that differ in
    nothing else (but their seed) are the choices of one selection. metric: of the validation
    recordings, in a stream after the last experience; of several the first that a run has; None: of
    accuracy, macro_auroc, zero_shot_top1, mean_average_precision, map_at_10 and recall_at_10.
    fraction: of the training recordings, held out of them while choices are tried, unless a cell
    says by itself how many, or the dataset has validation recordings (whole groups, where groups
    are known). seeds: choices are tried with these of the grid's alone; None: with all.
    """

    among: Annotated[tuple[str, ...], Field(min_length=1)]
    metric: Metric | Annotated[tuple[Metric, ...], Field(min_length=1)] | None = None
    on: Literal["validation"] = "validation"
    fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    seeds: Annotated[tuple[int, ...], Field(min_length=1)] | None = Field(
        default=None, exclude_if=lambda seeds: seeds is None
    )

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Of which the first that a run has decides."""
        if self.metric is None:
            return METRICS
        return (self.metric,) if isinstance(self.metric, str) else self.metric


class GridConfig(FileConfig):
    """Everything ``medley grid`` needs: configs of bench, align or finetune, and what varies.

    base: one config, or a list: files, or names of shipped ones. product: key.path -> values, all
    combinations. zip: key.path -> values, the first ones together, the second ones, and so on.
    cells: further cells, each a mapping key.path -> value (``base``: which of them it is of; all by
    default); without product and zip only these. exclude: mappings key.path -> value; a cell that
    fits all of one is left out. Where a name is compared, settings of that name fit. settings:
    key.path -> value of all cells. launcher: where they run, if the command line does not say.

    seeds, experiment, data_root, output_dir, quick, tracking: of all cells, in the place of what
    their base says.

    Under the key that lists the rows of a table (learners, objectives, methods) a value that is no
    list is a row by itself: ``product: {learners: [er, {name: replay, memory_size: 50}]}``.
    """

    command: ClassVar[str] = "grid"
    marker: ClassVar[str] = "base"

    base: Annotated[tuple[str, ...], Field(min_length=1)]
    product: dict[str, Values] = Field(default_factory=dict)
    zip: dict[str, Values] = Field(default_factory=dict)
    cells: tuple[Keys, ...] = ()
    exclude: tuple[Keys, ...] = ()
    settings: Keys = Field(default_factory=dict)
    select: SelectConfig | None = None
    launcher: Annotated[Config, LAUNCHERS.choice] | None = None
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**32)], ...] | None = None
    experiment: str | None = None
    data_root: str | None = None
    output_dir: str | None = None
    quick: bool | None = None
    tracking: Keys | None = None

    @classmethod
    def parse(cls, data: object) -> Self:
        """``base`` may be one name."""
        if isinstance(data, dict) and isinstance(data.get("base"), str):
            data = {**data, "base": [data["base"]]}
        return super().parse(data)

    @field_validator("base", "seeds")
    @classmethod
    def _some_and_no_repeats(cls, values: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
        return values if values is None else refuse_repeats(values)

    @field_validator("exclude")
    @classmethod
    def _say_something(cls, rules: tuple[Keys, ...]) -> tuple[Keys, ...]:
        if not all(rules):
            raise ValueError("an empty rule would leave every cell out")
        return rules

    @model_validator(mode="after")
    def _lists_go_together(self) -> Self:
        lengths = {key: len(values) for key, values in self.zip.items()}
        if len(set(lengths.values())) > 1:
            told = ", ".join(f"{key} has {count}" for key, count in lengths.items())
            raise ValueError(f"zip: lists of one length go together, but {told} values")
        twice = sorted(self.product.keys() & self.zip.keys())
        if twice:
            raise ValueError(f"{', '.join(twice)}: stands in product and in zip; keep one")
        if self.select is not None:
            varied = {*self.product, *self.zip, *(key for cell in self.cells for key in cell)}
            unknown = [key for key in self.select.among if key not in varied]
            if unknown:
                raise ValueError(f"select.among: {', '.join(unknown)} is nowhere varied")
        return self
