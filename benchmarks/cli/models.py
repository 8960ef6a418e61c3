"""Commands that write what they make: predict, explain, compose."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.cli.groups import ConfigArgument, Overrides

ModelArgument = Annotated[
    Path,
    typer.Argument(
        help="A run's folder, `runs/<experiment>/<hash>`, or one that finetune or merge wrote."
    ),
]


def add_models(app: typer.Typer) -> None:
    for command in (predict, explain, compose):
        app.command()(command)


def predict(
    model: ModelArgument,
    files: Annotated[
        list[Path],
        typer.Argument(
            help="Files, folders (all files of the model's modality in them), or tables with a "
            "column path (and perhaps start and duration, in seconds)."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="A table: .csv, .jsonl or .parquet; default: CSV on standard output."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace --out if it exists, and begin anew.")
    ] = False,
    classes: Annotated[
        str | None,
        typer.Option(
            help="Of a model of `medley align`: the classes to choose among, a,b,c. One of them is "
            "named, also by a model whose own classes may be present together."
        ),
    ] = None,
    view: Annotated[
        str | None,
        typer.Option(help="Of a model of several modalities: that of the files, such as xray."),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Classes in the column top.")] = 3,
    batch_size: Annotated[int, typer.Option(min=1, help="Recordings at once.")] = 32,
    window: Annotated[
        float | None, typer.Option(help="Cut each file into windows of so many seconds.")
    ] = None,
    hop: Annotated[
        float | None, typer.Option(help="Seconds between windows; default: the window.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Name recordings with a trained model: class, probability of every class, the best ones.

    MODEL is a finished run of `medley bench` (the learner after its last experience), of `medley
    finetune`, or of `medley align` (zero-shot, with class prompts; of data of several labels each
    class is asked for by itself), or a folder that `medley finetune` or `medley merge` wrote. Files
    that cannot be read get a row with the error, and the exit code is 2; with --out, the same
    command resumes a run that was stopped, and names files anew that have changed since.

    Examples:

    `medley predict runs/fsdd_class_incremental/0a1b2c3d4e5f recordings/ --out predictions.csv`

    `medley predict runs/requests/0a1b2c3d4e5f call.wav --classes "turn on the light,play music"`

    `medley predict runs/mitbih/0a1b2c3d4e5f records/ --window 0.65 --out beats.parquet`
    """
    from benchmarks.commands.predict.command import run_predict

    try:
        all_read = run_predict(
            model,
            files,
            out=out,
            overwrite=overwrite,
            classes=classes,
            view=view,
            top=top,
            batch_size=batch_size,
            window=window,
            hop=hop,
            device=device,
        )
    except KeyboardInterrupt:
        words = "the same command goes on" if out else "give --out to be able to go on"
        print(f"interrupted; {words}", file=sys.stderr)
        raise typer.Exit(130) from None
    raise typer.Exit(0 if all_read else 2)


def explain(
    model: ModelArgument,
    files: Annotated[list[Path], typer.Argument(help="Files, folders or tables, as in predict.")],
    label: Annotated[
        str | None, typer.Option(help="The class to explain; default: the predicted one.")
    ] = None,
    text: Annotated[
        str | None, typer.Option(help="Of a model of `medley align`: a text to explain.")
    ] = None,
    view: Annotated[
        str | None,
        typer.Option(help="Of a model of several modalities: that of the files, such as xray."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the pictures; default: explain/ in the run's.")
    ] = None,
    track: Annotated[
        bool,
        typer.Option(
            "--track", help="Add them to the run in MLflow; of ECG and X-ray, maps alone."
        ),
    ] = False,
) -> None:
    """Draw where in a recording a score came from: on the image, over time, on frames.

    Gradient x attention rollout, one picture a recording and a page of all. For research.

    Examples:

    `medley explain runs/patients/0a1b2c3d4e5f chest.png --view xray --text "effusion"`

    `medley explain runs/fsdd_class_incremental/0a1b2c3d4e5f recordings/ --label zero`
    """
    from benchmarks.commands.explain.command import run_explain

    run_explain(model, files, label=label, text=text, view=view, out=out, track=track)


def compose(
    config: ConfigArgument,
    out: Annotated[Path, typer.Option(help="A new folder for the scenes.")],
    overrides: Overrides = None,
) -> None:
    """Write the scenes of a config of `medley align` (its `compose`) as files to hear and to share.

    The folder gets sounds, what is heard when and what every caption claims (`*_scenes.jsonl`), a
    table to train on (`train.jsonl`), items to tell apart (`items.jsonl`) and a page with samples.

    Examples:

    `medley compose configs/align/esc10_compa_vanilla.yaml --out scenes compose.scenes=300`

    `medley compose my.yaml --out scenes dataset={name: folder, root: clips} compose.scenes=100`
    """
    from benchmarks.commands.compose import compose as run

    run(config, overrides or [], out)
