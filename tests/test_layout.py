"""Imports point one way: what STYLE asks for is read off the source here."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "pmtrain"
MODULES = sorted(PACKAGE.rglob("*.py"))

# Layers, lowest first; a module imports from its own row or from rows before it, and rows of commands stand apart.
LAYERS = [
    {"", "errors", "hardware", "console", "stop"},
    {"models", "config", "files", "serialization", "framework", "metrics"},
    {"device", "models.resnet", "data", "checkpoint", "model_state", "onednn", "charts"},
    {"backend"},
    {
        "environment",
        "engine",
        "run_folder",
        "score_table",
        "scoring",
        "baseline",
        "classifier",
        "gradcam",
        "tracking",
    },
    {"run"},
    {"train", "evaluate", "compare", "trace", "predict", "explain", "split"},
    {"crossval", "report"},
    {"cli"},
    {"__main__"},
]


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def layer_of(module: str) -> int:
    while True:
        for number, names in enumerate(LAYERS):
            if module in names:
                return number
        assert "." in module, f"{module} is in no row of LAYERS"
        module = module.rpartition(".")[0]


def imports(path: Path, top_level_only: bool) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_level_only else ast.walk(tree)
    known = {name_of(module) for module in MODULES}
    found = set()
    for node in nodes:
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = {name for name in whole if name.removeprefix("pmtrain.") in known}
            # `from package import module` leans on the module, not on what the package itself says.
            names = [*modules, *([node.module] if whole - modules else [])]
        for name in names:
            inner = name.removeprefix("pmtrain").removeprefix(".")
            if name.split(".")[0] != "pmtrain":
                found.add("!" + name.split(".")[0])
            elif inner in known and inner:
                found.add(inner)
    return found


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_downwards(path):
    own = name_of(path)
    # The package itself hands out the Python API, imported when it is asked for.
    for other in imports(path, top_level_only=own == ""):
        same_package = other.split(".")[0] == own.split(".")[0]
        if not other.startswith("!") and not same_package:
            assert layer_of(other) <= layer_of(own), f"{own} imports {other}"


def test_there_is_no_cycle():
    edges = {name_of(path): {m for m in imports(path, True) if not m.startswith("!")} for path in MODULES}

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join([*trail, module])
        for other in edges.get(module, ()):
            visit(other, (*trail, module))

    for module in edges:
        visit(module, ())


def test_commands_do_not_import_each_other():
    commands = next(row for row in LAYERS if "train" in row)
    for command in commands:
        assert not (imports(PACKAGE / f"{command}.py", False) & (commands - {command}))


def test_paddle_is_imported_in_one_place():
    users = {name_of(path) for path in MODULES if "!paddle" in imports(path, top_level_only=False)}
    assert users == {"framework"}


def test_what_stays_light_never_reaches_paddle():
    """The data layer (its workers import it), the metrics and everything that --help imports."""

    def reached(module: str, seen: set[str]) -> set[str]:
        if module not in seen:
            seen.add(module)
            path = PACKAGE / Path(*module.split(".")) if module else PACKAGE
            source = path.with_suffix(".py") if path.with_suffix(".py").exists() else path / "__init__.py"
            for other in imports(source, top_level_only=True):
                if not other.startswith("!"):
                    reached(other, seen)
        return seen

    light = [
        name_of(path)
        for path in MODULES
        if name_of(path).split(".")[0] in ("data", "metrics", "charts", "cli", "config")
    ]
    assert light
    for module in light:
        assert "framework" not in reached(module, set()), module


def test_no_module_that_everything_is_thrown_into():
    assert not {"utils", "util", "common", "helpers", "misc"} & {name_of(path).split(".")[-1] for path in MODULES}
