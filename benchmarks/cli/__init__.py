"""The command ``medley``: a table of commands; each imports what it needs when it is called."""

from __future__ import annotations

import io
import os
import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.cli.grids import add_grid
from benchmarks.cli.groups import ConfigArgument, DryRun, Overrides, groups
from benchmarks.cli.models import add_models
from benchmarks.cli.results import add_results

app = typer.Typer(
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
DISTRIBUTION = "medley-continual"
# To GNU's, LLVM's and Intel's OpenMP: threads that wait give their core away.
SLEEP = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}

add_grid(app)
add_models(app)
add_results(app)
for name, group in groups():
    app.add_typer(group, name=name)


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import PackageNotFoundError, version

        try:
            print(f"medley {version(DISTRIBUTION)}")
        except PackageNotFoundError:
            print("medley, not installed: run from its sources")
        raise typer.Exit


@app.callback()
def medley(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and stop."
        ),
    ] = False,
) -> None:
    """Continual learning on audio, speech and medical signals."""


@app.command()
def bench(
    config: ConfigArgument,
    overrides: Overrides = None,
    fresh: Annotated[bool, typer.Option(help="Delete earlier runs of this config first.")] = False,
    dry_run: DryRun = False,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Processes that take cells beside each other; 1: none, all is done in this one. "
            "Default: MEDLEY_WORKERS, else one a GPU, else one a core, for two cells or more each.",
        ),
    ] = None,
) -> None:
    """Run a class- or domain-incremental benchmark; the same command again resumes it.

    CONFIG may also be a folder: all its YAML files run, and one table shows them.

    Examples:

    `medley bench demo`

    `medley bench configs/bench/fsdd_class_incremental.yaml data_root=DATA quick=true`

    `medley bench my.yaml learners=[er,finetune] learners.er.memory_size=500 --workers 2`

    `medley bench bench/fsdd_si_blurry learners=[er_ace] --dry-run`
    """
    from benchmarks.commands.bench.command import run_bench

    try:
        run_bench(config, overrides or [], fresh=fresh, dry_run=dry_run, workers=workers)
    except KeyboardInterrupt:
        print("interrupted; the same command continues where it stopped", file=sys.stderr)
        raise typer.Exit(130) from None


@app.command()
def align(
    config: ConfigArgument,
    overrides: Overrides = None,
    fresh: Annotated[bool, typer.Option(help="Delete earlier runs of this config first.")] = False,
    dry_run: DryRun = False,
) -> None:
    """Align a signal encoder with texts; the same command again resumes it.

    Under `torchrun` or `accelerate launch` all processes share one batch.

    With two seeds or more, a second table holds the paired differences to the first objective
    (see `medley report --help`).

    Examples:

    `medley align configs/align/spoken_commands_cwcl.yaml`

    `medley align my.yaml objectives=[cwcl,clip,siglip] seeds=[1,2,3] training.epochs=5`
    """
    from benchmarks.commands.align.command import run_align

    try:
        run_align(config, overrides or [], fresh=fresh, dry_run=dry_run)
    except KeyboardInterrupt:
        print("interrupted; the same command continues where it stopped", file=sys.stderr)
        raise typer.Exit(130) from None


@app.command()
def finetune(
    config: ConfigArgument,
    overrides: Overrides = None,
    fresh: Annotated[bool, typer.Option(help="Delete earlier runs of this config first.")] = False,
    dry_run: DryRun = False,
    from_adapter: Annotated[
        Path | None,
        typer.Option(help="Go on from a fine-tuned model's adapter and head, of its folder."),
    ] = None,
) -> None:
    """Fine-tune an encoder on a dataset: LoRA, whole, or its head; the same command resumes it.

    Each run leaves `<run>/model/`: the adapter as plain PEFT loads it, the head, and a model card.

    Under `torchrun` or `accelerate launch` all processes share one batch.

    Examples:

    `medley finetune configs/finetune/mitbih_lora.yaml data_root=DATA`

    `medley finetune my.yaml methods=[head,lora,full] seeds=[1,2,3] training.epochs=5`

    `medley finetune my.yaml init=runs/spoken_commands/0123456789ab method={name: dora, rank: 8}`

    `medley finetune my.yaml methods=[lora] --from-adapter runs/fsdd/0123456789ab/model`
    """
    from benchmarks.commands.finetune.command import run_finetune

    try:
        run_finetune(
            config, overrides or [], fresh=fresh, from_adapter=from_adapter, dry_run=dry_run
        )
    except KeyboardInterrupt:
        print("interrupted; the same command continues where it stopped", file=sys.stderr)
        raise typer.Exit(130) from None


@app.command()
def merge(
    model: Annotated[Path, typer.Argument(help="A fine-tuned model's folder, or its run's.")],
    out: Annotated[Path, typer.Option(help="The folder to write.")],
) -> None:
    """Write a fine-tuned model as a plain transformers folder (safetensors) that needs no PEFT.

    Example: `medley merge runs/fsdd/0123456789ab --out merged`
    """
    from benchmarks.commands.merge import run_merge

    run_merge(model, out)


@app.command()
def zeroshot(
    config: ConfigArgument,
    overrides: Overrides = None,
    fresh: Annotated[bool, typer.Option(help="Evaluate again what is done already.")] = False,
    dry_run: DryRun = False,
) -> None:
    """Evaluate aligned runs, or a CLAP checkpoint, zero-shot: classification and retrieval.

    Of models of two seeds or more, a second table holds the paired differences to the first row
    (see `medley report --help`).

    Examples:

    `medley zeroshot configs/zeroshot/spoken_commands.yaml`

    `medley zeroshot configs/zeroshot/esc50_clap.yaml model.checkpoint=FOLDER protocol=laion`
    """
    from benchmarks.commands.zeroshot.command import run_zeroshot

    try:
        run_zeroshot(config, overrides or [], fresh=fresh, dry_run=dry_run)
    except KeyboardInterrupt:
        print("interrupted; finished models are kept", file=sys.stderr)
        raise typer.Exit(130) from None


@app.command()
def doctor() -> None:
    """Say what is wrong with this machine's installation, and what to do about it.

    Example: `medley doctor`
    """
    from benchmarks.commands.doctor import run_doctor

    raise typer.Exit(0 if run_doctor() else 2)


def main() -> None:
    """Exit code 0: done. 2: the input is wrong (one line a problem). 1: a fault of ours.

    A disk that is full, a folder where a file belongs, and files that must not be read or written
    are the user's too.

    Threads that wait for others sleep meanwhile, unless the environment says something else: two
    runs on one machine that wait busily take ten times as long. PyTorch, which is imported later,
    hears of it.
    """
    for variable, value in SLEEP.items():
        os.environ.setdefault(variable, value)
    for stream in (sys.stdout, sys.stderr):
        # A terminal of few letters shows \\u2192; it must not end the run.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        app(prog_name="medley")
    except Exception as error:
        from multimodal.credentials import hidden

        given = [word.partition("=")[2] for word in sys.argv if "://" in word]
        if words := _refusal(error):
            for line in hidden(words, *given).splitlines():
                print(f"error: {line}", file=sys.stderr)
            sys.exit(2)
        text = traceback.format_exc()
        if hidden(text, *given) == text:
            raise
        # An address with a password stands in it.
        print(hidden(text, *given), file=sys.stderr, end="")
        sys.exit(1)


def _refusal(error: Exception) -> str:
    """What the user is told; "" for a fault of ours."""
    from multimodal.errors import DISK, UserError, of_the_disk

    if isinstance(error, UserError):
        return str(error)
    if not isinstance(error, OSError) or of_the_disk(error) is not error:
        return ""
    place = error.filename2 or error.filename  # the second: where a file was to be moved to
    where = f"{place}: " if place else ""
    return f"{where}{error.strerror}; {DISK[error.errno or 0]}."
