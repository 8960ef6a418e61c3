"""The groups of commands: datasets, config, configs, encoders, learners, objectives."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

datasets_app = typer.Typer(no_args_is_help=True, help="List, describe, get and check datasets.")
config_app = typer.Typer(no_args_is_help=True, help="Show a config in full, or the schema of all.")
runs_app = typer.Typer(no_args_is_help=True, help="List runs, also those that are not done.")
configs_app = typer.Typer(no_args_is_help=True, help="List and copy the configs that are shipped.")
# Kind -> a name for the examples.
CHOICES = {"encoders": "pretrained", "learners": "er", "objectives": "clip"}


def _shipped(incomplete: str) -> list[str]:
    """For the shell's completion: shipped configs, beside the files that it knows itself."""
    from benchmarks.commands.choices import shipped_names

    files = [str(p) for p in Path().glob(f"{incomplete}*") if p.is_dir() or p.suffix == ".yaml"]
    return [*sorted(files), *(name for name in shipped_names() if name.startswith(incomplete))]


ConfigArgument = Annotated[
    Path,
    typer.Argument(
        help="A YAML file, or the name of a shipped one (bench/own_folder).",
        autocompletion=_shipped,
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Check the config and list its runs; run nothing.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        help="key.path=value, e.g. training.epochs=10 learners=[er,finetune], of those that the "
        "config lists with their settings, or learners.er.memory_size=500. Text stands for itself; "
        "null, or nothing, unsets a setting that may be unset. One that changes nothing is refused."
    ),
]


def groups() -> Iterator[tuple[str, typer.Typer]]:
    """Name -> group."""
    yield from (("runs", runs_app), ("datasets", datasets_app))
    yield from (("config", config_app), ("configs", configs_app))
    for kind, example in CHOICES.items():
        yield kind, choices_app(kind, example)


def choices_app(kind: str, example: str) -> typer.Typer:
    """``medley KIND list`` and ``describe``."""
    group = typer.Typer(no_args_is_help=True, help=f"List and describe {kind}.")
    one = kind.removesuffix("s")

    def show_all() -> None:
        from benchmarks.commands.choices import print_choices

        print_choices(kind)

    def show_one(name: Annotated[str, typer.Argument(help="A name of the list.")]) -> None:
        from benchmarks.commands.choices import describe_choice

        describe_choice(kind, name)

    show_all.__doc__ = f"All {kind} that a config may name.\n\nExample: `medley {kind} list`"
    show_one.__doc__ = (
        f"What a{'n' * (one[0] in 'aeiou')} {one} does, and its settings.\n\n"
        f"Example: `medley {kind} describe {example}`"
    )
    group.command("list")(show_all)
    group.command("describe")(show_one)
    return group


@runs_app.command("list")
def list_runs(
    path: Annotated[Path, typer.Argument(help="An output folder, an experiment or a run.")] = Path(
        "runs"
    ),
) -> None:
    """What each hash is: learner, data, seed, state (done, running, stopped) and main metric.

    Examples: `medley runs list`, `medley runs list runs/fsdd_si_blurry`
    """
    from benchmarks.commands.runs import list_runs

    list_runs(path)


@datasets_app.command("list")
def list_datasets() -> None:
    """All datasets that a config may name.

    Example: `medley datasets list`
    """
    from benchmarks.commands.datasets import print_datasets

    print_datasets()


@datasets_app.command("describe")
def describe_dataset(
    name: Annotated[str, typer.Argument(help="A name of `datasets list`.")],
) -> None:
    """What a dataset is, how it must lie on disk, its licence and its settings.

    Example: `medley datasets describe fsdd`
    """
    from benchmarks.commands.datasets import describe

    describe(name)


@datasets_app.command("check")
def check_dataset(
    name: Annotated[str, typer.Argument(help="A name of `datasets list`.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Dataset settings, e.g. split=speaker")
    ] = None,
    root: Annotated[
        Path | None, typer.Option(help="Its folder; default: below MEDLEY_DATA.")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Decoding threads.")] = None,
) -> None:
    """Open every recording of a local copy and say what is missing, damaged or leaking.

    Examples: `medley datasets check fsdd --root DATA/fsdd`,
    `medley datasets check table file=calls.csv --root my_data`
    """
    from benchmarks.commands.datasets import check

    check(name, overrides or [], root=root, workers=workers)


@datasets_app.command("get")
def get_dataset(
    name: Annotated[str, typer.Argument(help="A name of `datasets list`.")],
    files: Annotated[
        list[str] | None, typer.Argument(help="Only these of its files; default: all.")
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option(help="Folder that holds all datasets, one folder each; default: MEDLEY_DATA."),
    ] = None,
) -> None:
    """Download an open dataset, or say how to get one that is not; the same command resumes.

    Examples: `medley datasets get fsdd --root DATA`,
    `medley datasets get clotho clotho_captions_evaluation.csv --root DATA`
    """
    from benchmarks.commands.datasets import get

    try:
        get(name, files or [], root=root)
    except KeyboardInterrupt:
        print("interrupted; the same command continues where it stopped", file=sys.stderr)
        raise typer.Exit(130) from None


@config_app.command("show")
def show_config(config: ConfigArgument, overrides: Overrides = None) -> None:
    """The config with every default filled in, and the hash of each run.

    Example: `medley config show demo/speech training.epochs=3`
    """
    from benchmarks.commands.config import show

    show(config, overrides or [])


@config_app.command("schema")
def config_schema(
    command: Annotated[str, typer.Argument(help="One that reads a file, such as align.")] = "bench",
) -> None:
    """JSON Schema of a command's config files, for editors.

    Examples: `medley config schema > bench.schema.json`, `medley config schema align`
    """
    from benchmarks.commands.config import print_schema

    print_schema(command)


@configs_app.command("list")
def list_configs() -> None:
    """All configs that are shipped, and what each is for.

    Example: `medley configs list`
    """
    from benchmarks.commands.choices import print_shipped

    print_shipped()


@configs_app.command("copy")
def copy_config(
    name: Annotated[str, typer.Argument(help="A name of `configs list`.")],
    target: Annotated[
        Path | None, typer.Argument(help="The file to write; default: its name, here.")
    ] = None,
) -> None:
    """Copy a shipped config, to change it.

    Examples: `medley configs copy bench/own_folder`, `medley configs copy bench/esc10_cwcl my.yaml`
    """
    from benchmarks.commands.choices import copy_shipped

    copy_shipped(name, target)
