"""Runs the fast tests at the lowest versions that pyproject.toml promises, and at the newest that can be had.

    python tools/versions.py --keep ~/.cache/nst-versions
    python tools/versions.py --only lowest --python python3.12 -- tests/cli/test_main.py -x

Each set of versions is a virtual environment, into which nst is installed as a user would install it. In the lowest,
each `name>=version` becomes `name==version` in a constraints file, those of the build and of the tests included; what
these packages need in turn is left to pip, which takes the newest. The tests run in a copy of the sources from which
the package's code is taken away: they find the installed one, and nobody's editing disturbs them.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SETS = ("lowest", "newest")
LEFT_OUT = (".git", ".venv", ".*_cache", "__pycache__", "lightning_logs", "build", "dist", "*.egg-info")
"""Names that are not copied with the sources."""

BOUND = re.compile(r"([\w.-]+)[^;]*?>=\s*([\w.]+)")
PYTHON = "import sys; print('%d.%d' % sys.version_info[:2])"
VERSIONS = """
import importlib.metadata, platform, sys
print(platform.python_version(), *map(importlib.metadata.version, sys.argv[1:]), sep="\\n")
"""


@dataclass(frozen=True)
class Requirements:
    """What a pyproject.toml asks for."""

    package: list[str]
    build: list[str]
    extras: list[str]

    @classmethod
    def read(cls, path: Path) -> Requirements:
        """Reads them from a file."""
        contents = tomllib.loads(path.read_text(encoding="utf-8"))
        project = contents["project"]
        extras = [line for lines in project.get("optional-dependencies", {}).values() for line in lines]
        return cls(project["dependencies"], contents["build-system"]["requires"], extras)

    def constraints(self) -> str:
        """Returns a constraints file that holds each requirement to its lower bound."""
        lowest = bounds((*self.package, *self.build, *self.extras))
        return "".join(f"{name}=={version}\n" for name, version in lowest.items())


@dataclass(frozen=True)
class Outcome:
    """What came of one set of versions."""

    passed: bool
    words: str
    versions: Mapping[str, str] = field(default_factory=dict)


def bounds(requirements: Iterable[str]) -> dict[str, str]:
    """Returns the lowest version of each requirement that names one."""
    return {match[1]: match[2] for match in map(BOUND.match, requirements) if match}


def run(*words: str | Path, folder: Path) -> tuple[int, str]:
    """Runs a command, shows what it writes, and returns its exit code and its last line."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {
        "PYTHONUNBUFFERED": "1"
    }
    last = ""
    with subprocess.Popen(
        list(map(str, words)),
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            last = line.strip() or last
    return process.returncode, last


def install(python: Path, tree: Path, requirements: Requirements, lowest: bool) -> bool:
    """Installs nst from the sources into an environment that may hold it already, and says if that went well."""
    limits: list[str | Path] = ["--upgrade", "--upgrade-strategy", "eager"]
    if lowest:
        limits = ["--constraint", tree / "constraints.txt"]
        (tree / "constraints.txt").write_text(requirements.constraints(), encoding="utf-8")
    pip = (python, "-m", "pip", "--quiet", "--disable-pip-version-check", "install", *limits)
    steps = (
        [*requirements.build],
        ["--no-build-isolation", tree, "pytest", "pytest-xdist"],
    )  # isolated, a build obeys no constraints
    return all(run(*pip, *words, folder=tree)[0] == 0 for words in steps)


def attempt(kind: str, home: Path, executable: str, options: Sequence[str]) -> Outcome:
    """Makes or refreshes the environment of one set and runs the tests in it."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(*LEFT_OUT))
        requirements = Requirements.read(tree / "pyproject.toml")
        version = subprocess.run([executable, "-c", PYTHON], capture_output=True, text=True, check=True).stdout.strip()
        environment = home / f"{kind}-{version}"
        python = environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        if not python.exists():
            run(executable, "-m", "venv", environment, folder=tree)
        if not install(python, tree, requirements, kind == "lowest"):
            return Outcome(False, "not installed")
        for source in (tree / "nst").rglob("*.py"):  # the README speaks of other files there
            source.unlink()
        names = [*bounds(requirements.package), *bounds(requirements.build), "pytest", "pytest-xdist"]
        found = subprocess.run([python, "-c", VERSIONS, *names], capture_output=True, text=True, check=True)
        code, last = run(python, "-m", "pytest", "-m", "not slow", *options, folder=tree)
        return Outcome(code == 0, last, dict(zip(("Python", *names), found.stdout.split(), strict=True)))


def table(outcomes: Mapping[str, Outcome]) -> str:
    """Lays out the versions, a column for each set, and below them what came of it."""
    names = list(dict.fromkeys(name for outcome in outcomes.values() for name in outcome.versions))
    rows = [("", *outcomes)]
    rows += [(name, *(outcome.versions.get(name, "") for outcome in outcomes.values())) for name in names]
    lines = ["".join(f"{cell:<16}" for cell in row).rstrip() for row in rows]
    lines += [f"{kind:<16}{outcome.words}" for kind, outcome in outcomes.items()]
    return "\n".join(lines)


def main(args: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=SETS, help="one set of versions; both by default")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the environments here, and use them again")
    parser.add_argument("--python", default=sys.executable, metavar="EXECUTABLE", help="the Python to test with")
    parser.add_argument("options", nargs="*", metavar="OPTION", help="given to pytest, after --")
    options = parser.parse_args(args)
    if not (executable := shutil.which(options.python)):
        parser.error(f"Expected --python to be a Python that can be run, but got {options.python}")
    with tempfile.TemporaryDirectory() as folder:
        home = (options.keep or Path(folder)).expanduser().resolve()
        kinds = [options.only] if options.only else SETS
        outcomes = {kind: attempt(kind, home, executable, options.options) for kind in kinds}
    print(table(outcomes))
    return 0 if all(outcome.passed for outcome in outcomes.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
