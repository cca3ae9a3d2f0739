"""The house: imports point down, nothing goes in a circle, and no room is crowded."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

import nst

ROOT = Path(nst.__file__).parent
FLOORS = [
    "machine",
    "distributed",
    "pictures",
    "scene",
    "network",
    "losses",
    "streaming",
    "optimise",
    "run",
    "many",
    "video",
    "studio",
    "cli",
]
"""Folders from the bottom up: what lies in one may import what lies in it or below."""

VOCABULARY = ["errors", "types"]
"""What any floor may import."""

LONGEST_CHAIN, LONGEST_MODULE, MOST_FILES = 10, 400, 9
FOLDERS = [ROOT, *(path for path in sorted(ROOT.rglob("*")) if (path / "__init__.py").exists())]


def modules() -> dict[str, Path]:
    """All modules of the package by name, such as `nst.losses.terms`."""
    paths = {".".join(["nst", *path.relative_to(ROOT).with_suffix("").parts]): path for path in ROOT.rglob("*.py")}
    return {name.removesuffix(".__init__"): path for name, path in paths.items()}


MODULES = modules()


@cache
def imports(name: str) -> list[str]:
    """The modules of the package that one imports, wherever it does, in their order."""
    found: list[str] = []
    for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} has a relative import"
            within = [f"{node.module}.{alias.name}" for alias in node.names]
            found += [path if path in MODULES else str(node.module) for path in within]
    return [path for path in dict.fromkeys(found) if path in MODULES and path != name]


def floor(name: str) -> int:
    """How high a module lies: the vocabulary below all folders, the entry above them."""
    part = name.split(".")[1] if "." in name else ""
    return -1 if part in VOCABULARY else FLOORS.index(part) if part in FLOORS else len(FLOORS)


def chain(name: str, above: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The longest chain of imports that begins with a module."""
    assert name not in above, f"a circle: {' > '.join((*above[above.index(name) :], name))}"
    below = [chain(path, (*above, name)) for path in imports(name)]
    return (name, *max(below, key=len, default=()))


def test_every_folder_has_its_floor() -> None:
    assert sorted(path.name for path in FOLDERS if path.parent == ROOT) == sorted(FLOORS)


@pytest.mark.parametrize("name", MODULES)
def test_imports_point_down(name: str) -> None:
    assert [path for path in imports(name) if floor(path) > floor(name)] == []


def test_no_circle_and_no_long_chain() -> None:
    longest = max((chain(name) for name in MODULES), key=len)
    assert len(longest) <= LONGEST_CHAIN, " > ".join(longest)


def test_the_chains_of_imports_are_found() -> None:
    assert imports("nst.__main__") == ["nst.machine.threads", "nst.cli.main"]
    assert chain("nst.network.features")[-1] in ("nst.errors", "nst.network.architecture")


def test_no_room_is_crowded() -> None:
    assert {
        name: n for name, path in MODULES.items() if (n := len(path.read_text().splitlines())) > LONGEST_MODULE
    } == {}
    assert {folder.name: n for folder in FOLDERS if (n := len([*folder.glob("*.py")])) > MOST_FILES} == {}


@pytest.mark.parametrize("folder", FOLDERS[1:], ids=lambda path: path.name)
def test_every_folder_says_what_it_knows_and_what_not(folder: Path) -> None:
    text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))) or ""
    assert " know" in text and " no " in text.lower()
