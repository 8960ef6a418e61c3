"""What makes a tracked model one that MLflow loads and serves (its flavour ``python_function``)."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

# Named in the model's file, and imported by whoever loads it.
LOADER = "benchmarks.commands.predict.served"
PACKAGE = "medley-continual"


@contextmanager
def flavour_files(model_id: str, run_id: str, config_hash: str) -> Iterator[list[Path]]:
    """MLmodel and requirements.txt of a model whose other files lie beside them."""
    from mlflow.models import Model
    from mlflow.pyfunc import add_to_model

    version = metadata.version(PACKAGE)
    model = Model(run_id=run_id, model_id=model_id)
    add_to_model(model, loader_module=LOADER, data=".")
    model.add_flavor("medley", version=version, config_hash=config_hash)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        model.save(str(path / "MLmodel"))
        (path / "requirements.txt").write_text(f"{PACKAGE}=={version}\n", "utf-8")
        yield [path / "MLmodel", path / "requirements.txt"]
