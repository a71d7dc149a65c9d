"""The two rules of the package's layout, read off the source: imports point downwards, and no folder is crowded."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "pmtrain"
MODULES = sorted(PACKAGE.rglob("*.py"))
FOLDERS = sorted({path.parent for path in MODULES})

# The package's entries, highest first: an entry imports from itself and from those below it.
ROOMS = ["__main__", "cli", "training", "evaluation", "data", "runs", "config", "models", "metrics", "system"]
MOST_ENTRIES = 10


def name_of(path: Path) -> str:
    """`pmtrain/data/select.py` -> `data.select`; the package itself is the empty name."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


NAMES = {name_of(path) for path in MODULES}


def imports(path: Path, top_level_only: bool = False) -> set[str]:
    """The package's modules that a file imports, and every other package, marked by `!`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = set()
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = {name for name in whole if name.removeprefix("pmtrain.") in NAMES}
            # `from package import module` leans on the module, not on what the package itself says.
            names = [*modules, *([node.module] if whole - modules else [])]
        else:
            continue
        for name in names:
            inner = name.removeprefix("pmtrain").removeprefix(".")
            if name.split(".")[0] != "pmtrain":
                found.add("!" + name.split(".")[0])
            elif inner in NAMES and inner:
                found.add(inner)
    return found


def own_imports(path: Path) -> set[str]:
    """As `imports`, the package's own alone. The package itself hands out its Python API when that is asked for."""
    return {name for name in imports(path, top_level_only=name_of(path) == "") if not name.startswith("!")}


def test_the_rooms_are_those_of_the_package():
    assert {entry_of(PACKAGE, name) for name in NAMES if name} == set(ROOMS)


def entry_of(folder: Path, module: str) -> str | None:
    """The entry of `folder` that `module` lies in; None where it lies elsewhere or is the folder's own face."""
    inside = ".".join(folder.relative_to(PACKAGE).parts)
    rest = module.removeprefix(inside).removeprefix(".") if not inside or f"{module}.".startswith(f"{inside}.") else ""
    return rest.split(".")[0] or None


@pytest.mark.parametrize("path", [path for path in MODULES if name_of(path)], ids=name_of)
def test_imports_point_downwards(path):
    room = ROOMS.index(name_of(path).split(".")[0])
    for other in own_imports(path):
        assert ROOMS.index(other.split(".")[0]) >= room, f"{name_of(path)} imports {other}"


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.relative_to(PACKAGE.parent).as_posix())
def test_entries_of_a_folder_import_one_way(folder):
    edges: dict[str, set[str]] = {}
    for path in MODULES:
        own = entry_of(folder, name_of(path))
        if own:
            others = {entry_of(folder, other) for other in own_imports(path)}
            edges.setdefault(own, set()).update(other for other in others if other and other != own)

    def visit(entry: str, trail: tuple[str, ...]) -> None:
        assert entry not in trail, " -> ".join([*trail, entry])
        for other in edges.get(entry, ()):
            visit(other, (*trail, entry))

    for entry in edges:
        visit(entry, ())


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.relative_to(PACKAGE.parent).as_posix())
def test_no_folder_is_crowded(folder):
    entries = {entry_of(folder, name_of(path)) for path in MODULES} - {None}
    assert len(entries) <= MOST_ENTRIES, sorted(entries)


def test_a_name_occurs_once():
    """Two modules of one name are told apart by nobody who searches for it."""
    leaves = sorted(name.split(".")[-1] for name in NAMES if name and not (PACKAGE / Path(*name.split("."))).is_dir())
    assert len(leaves) == len(set(leaves)), [leaf for leaf in set(leaves) if leaves.count(leaf) > 1]


def test_paddle_is_imported_in_one_place():
    users = {name_of(path) for path in MODULES if "!paddle" in imports(path)}
    assert users == {"system.framework"}


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
        name
        for name in NAMES
        if name.split(".")[0] in ("data", "metrics", "cli", "config") or name == "evaluation.charts"
    ]
    assert light
    for module in light:
        assert "system.framework" not in reached(module, set()), module


def test_no_module_that_everything_is_thrown_into():
    assert not {"utils", "util", "common", "helpers", "misc"} & {name.split(".")[-1] for name in NAMES}
