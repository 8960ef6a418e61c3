"""The house of DESIGN.md: rooms, arrows that run down, no circle, no file that is too long.

Imports are read from the source (ast), also inside functions. A file that does not fit is moved.
"""

from __future__ import annotations

import ast
import graphlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
MOST_LINES = 300
# From top to bottom. A room imports itself and what stands on later lines, nothing beside it.
LAYERS = {
    "benchmarks": (
        "cli speed avalanche_logger",
        "commands",
        "runs",
        "tracking",
        "reports",
        "results config launchers",
    ),
    "continual": (
        "learners online anytime prequential unknown",
        "degla",
        "strategy evaluation text_aligned prompting spoken taught merged",
        "classifier_learner plugins recall understanding",
        "learner",
        "scenarios classifier aligned_classifier rehearsal analytic metrics online_metrics "
        "stream_loaders rates teacher",
        "herding class_balanced evidence",
        "memory",
    ),
    "multimodal": (
        "models",
        "training encoders evaluation composition check",
        "objectives signals datasets",
        "loader downloads modalities",
        "batch recordings hub weights shards registry",
        "ahead contents columns digests growing",
        "locks bars files yaml_limits",
        "errors credentials",
    ),
}
# Rooms whose neighbours below are fewer than their layer allows.
ONLY = {
    "multimodal.objectives": ("multimodal.registry",),
    "multimodal.training": (
        "multimodal.objectives",
        "multimodal.loader",
        "multimodal.weights",
        "multimodal.registry",
        "multimodal.errors",
    ),
    "multimodal.composition": (
        "multimodal.signals",
        "multimodal.batch",
        "multimodal.recordings",
        "multimodal.registry",
        "multimodal.errors",
    ),
    "benchmarks.cli": ("benchmarks.commands", "multimodal.errors", "multimodal.credentials"),
}
COMMANDS = {  # that build on another one
    "finetune": {"align", "bench"},
    "zeroshot": {"align"},
    "explain": {"predict"},
    "predict": {"align", "bench", "finetune"},
    "merge": {"finetune"},
    "compose": {"align"},
    "grid": {"bench", "align", "finetune"},
}
# Libraries with a room of their own; benchmarks of speed measure Avalanche as a peer.
LIBRARIES = {
    "avalanche": (
        "continual.scenarios",
        "continual.plugins",
        "continual.strategy",
        "continual.online",
        "benchmarks.tracking.avalanche",
        "benchmarks.speed",
    ),
    "mlflow": ("benchmarks.tracking", "benchmarks.reports"),
}
# What benchmarks must not know: the insides of learners.
INSIDES = (
    "continual.learners",
    "continual.classifier_learner",
    "continual.text_aligned",
    "continual.aligned_classifier",
    "continual.spoken",
    "continual.prompting",
)


class Edge(NamedTuple):
    """One import. source, target: modules; where: file and line."""

    source: str
    target: str
    where: str


def imports(root: Path) -> list[Edge]:
    """All imports in the three packages below ``root``."""
    files = [p for package in LAYERS for p in sorted((root / package).rglob("*.py"))]
    modules = {module_of(path, root) for path in files}
    return [edge for path in files for edge in imports_of(path, root, modules)]


def module_of(path: Path, root: Path) -> str:
    return ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


def imports_of(path: Path, root: Path, modules: set[str]) -> Iterator[Edge]:
    source = module_of(path, root)
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            named = [f"{node.module}.{alias.name}" for alias in node.names]
            targets = [name if name in modules else str(node.module) for name in named]
        elif isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        else:
            continue
        where = f"{path.relative_to(root)}:{node.lineno}"
        yield from (Edge(source, target, where) for target in dict.fromkeys(targets))


def room(module: str) -> str:
    return ".".join(module.split(".")[:2])


def within(module: str, places: tuple[str, ...]) -> bool:
    return any(module == place or module.startswith(f"{place}.") for place in places)


def depth(module: str) -> int:
    """The layer of a module's room, from the top; AssertionError if it has no place."""
    package, _, name = room(module).partition(".")
    if not name:
        return len(LAYERS[package])
    found = [i for i, line in enumerate(LAYERS[package]) if name in line.split()]
    assert found, f"{module}: give the room {room(module)} its place in LAYERS"
    return found[0]


def faults(edges: list[Edge]) -> list[str]:
    """What is wrong with these imports, one line each."""
    found = []
    for source, target, where in edges:
        package, other = source.split(".")[0], target.split(".")[0]
        arrow = f"{where}: {source} -> {target}"
        if other in LIBRARIES and not within(source, LIBRARIES[other]):
            found.append(f"{arrow}: {other} outside its rooms")
        if other not in LAYERS:
            continue
        below = list(LAYERS).index(other) > list(LAYERS).index(package)
        up = package == other and room(source) != room(target) and depth(source) >= depth(target)
        if up or not (below or package == other):
            found.append(f"{arrow}: runs up")
        allowed = (room(source), *ONLY.get(room(source), ()))
        if room(source) in ONLY and not within(target, allowed):
            found.append(f"{arrow}: not one of {', '.join(allowed)}")
        if package == "benchmarks" and within(target, INSIDES):
            found.append(f"{arrow}: looks into learners")
        if room(source) == room(target) == "benchmarks.commands":
            one, two = (m.split(".")[2] if m.count(".") > 1 else "" for m in (source, target))
            if two not in {one, ""} | COMMANDS.get(one, set()):
                found.append(f"{arrow}: a command imports another")
    return found


def circle(edges: list[Edge]) -> list[str]:
    """The modules of one circle, or none. A package's face may be imported by what it holds."""
    graph: dict[str, set[str]] = {}
    for source, target, _ in edges:
        if target.split(".")[0] in LAYERS and source != target:
            graph.setdefault(source, set()).add(target)
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return []


def test_arrows_run_down() -> None:
    assert faults(imports(ROOT)) == []


def test_there_is_no_circle() -> None:
    assert circle(imports(ROOT)) == []


def test_every_room_has_one_place() -> None:
    for package, layers in LAYERS.items():
        listed = [name for line in layers for name in line.split()]
        assert len(listed) == len(set(listed))
        there = {p.stem for p in (ROOT / package).iterdir() if p.suffix == ".py" or is_package(p)}
        assert set(listed) == there - {"__init__"}


def is_package(path: Path) -> bool:
    return path.is_dir() and any(path.glob("*.py"))


def test_no_file_is_too_long() -> None:
    for top in (*LAYERS, "tests"):
        for path in (ROOT / top).rglob("*.py"):
            lines = len(path.read_text("utf-8").splitlines())
            assert lines <= MOST_LINES, f"{path.relative_to(ROOT)} has {lines} lines"


def test_benchmarks_asks_learners_and_never_looks_inside() -> None:
    for path in (ROOT / "benchmarks").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "isinstance":
                kinds = {n.id for n in ast.walk(node.args[1]) if isinstance(n, ast.Name)}
                inside = {k for k in kinds if k.endswith(("Learner", "Classifier", "PromptModel"))}
                assert not inside, f"{path.relative_to(ROOT)}:{node.lineno}: {inside}"


def test_modules_are_imported_by_name_only_where_things_are_looked_up() -> None:
    """Imports that no arrow shows: of registries and families, commands' configs, doctor."""
    known = {
        "benchmarks/__init__.py",
        "multimodal/registry.py",
        "multimodal/encoders/families/__init__.py",
        "benchmarks/config/loading.py",
        "benchmarks/commands/doctor.py",
    }
    found = {
        str(path.relative_to(ROOT))
        for package in LAYERS
        for path in (ROOT / package).rglob("*.py")
        if re.search(r"import_module|__import__", path.read_text("utf-8"))
    }
    assert found == known


def test_tests_mirror_the_rooms() -> None:
    for package in LAYERS:
        for path in (ROOT / "tests" / package).rglob("test_*.py"):
            folder = path.parent.relative_to(ROOT / "tests")
            assert (ROOT / folder).is_dir(), f"tests/{folder} mirrors no room"
            for edge in imports_of(path, ROOT, set()):
                top = edge.target.split(".")[0]
                assert package == "benchmarks" or top != "benchmarks", f"{edge.where}: {top}"


@pytest.mark.parametrize(
    ("file", "line", "words"),
    [
        ("benchmarks/results/files.py", "import benchmarks.runs.session", "runs up"),
        ("benchmarks/runs/data.py", "from benchmarks.commands import bench", "runs up"),
        ("benchmarks/results/files.py", "from benchmarks.config import base", "runs up"),
        ("continual/learner.py", "def f():\n    from benchmarks.cli import app", "runs up"),
        ("multimodal/errors.py", "from multimodal.registry import Config", "runs up"),
        ("multimodal/objectives/cwcl.py", "from multimodal.errors import UserError", "not one of"),
        ("multimodal/training/fit.py", "from multimodal.models import towers", "runs up"),
        ("multimodal/composition/draw.py", "import multimodal.modalities.audio", "not one of"),
        ("continual/rehearsal.py", "import avalanche", "avalanche outside its rooms"),
        ("benchmarks/runs/data.py", "from mlflow import MlflowClient", "mlflow outside its rooms"),
        ("benchmarks/runs/data.py", "from continual.learners import mvp", "looks into learners"),
        ("benchmarks/commands/align/run.py", "import benchmarks.commands.bench.run", "another"),
    ],
)
def test_a_planted_fault_is_found(tmp_path, file: str, line: str, words: str) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(f"{line}\n")
    found = faults(imports(tmp_path))
    assert len(found) >= 1
    assert words in found[0]


def test_a_planted_circle_is_found(tmp_path) -> None:
    folder = tmp_path / "multimodal" / "encoders"
    folder.mkdir(parents=True)
    (folder / "a.py").write_text("import multimodal.encoders.b\n")
    (folder / "b.py").write_text("def late():\n    from multimodal.encoders.a import x\n")
    assert set(circle(imports(tmp_path))) == {"multimodal.encoders.a", "multimodal.encoders.b"}


def test_no_line_suggests_the_medley_of_public_indexes() -> None:
    """That distribution is another project's; ours is installed from a checkout or a wheel file."""
    told = re.compile(r"""pip3? install[^\n]*?['" ]medley(?!\S*\.whl)""")
    files = [p for top in (*LAYERS, "docs", "configs") for p in (ROOT / top).rglob("*.*")]
    for path in [*files, ROOT / "README.md", ROOT / "Makefile", ROOT / "pyproject.toml"]:
        if path.suffix in (".py", ".md", ".yaml", ".toml", ""):
            assert not told.search(path.read_text("utf-8")), path.relative_to(ROOT)
    assert told.search("pip install 'medley[video]'")
    assert told.search("pip install --upgrade medley")
    assert not told.search("pip install dist/medley_continual-0.3.0-py3-none-any.whl")
