"""What a release needs: one version, a citation, an image, templates, and a wheel that holds all that it reads."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import yaml

import nst

ROOT = Path(nst.__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]


def words(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def test_the_version_stands_in_one_place() -> None:
    version = PROJECT["project"]["version"]
    assert nst.__version__ == version
    for path in [*(ROOT / "nst").rglob("*.py"), ROOT / "CITATION.cff", ROOT / "Dockerfile", ROOT / "README.md"]:
        assert f'"{version}"' not in path.read_text(encoding="utf-8"), path
    numbers = re.findall(r"^## \[(\d[^\]]*)\]", words("CHANGELOG.md"), re.MULTILINE)
    assert re.search(rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d$", words("CHANGELOG.md"), re.MULTILINE)
    latest = [int(x) for x in version.split(".")]
    assert all([int(x) for x in number.split(".")] <= latest for number in numbers)  # none that is not released


def test_types_ship_with_the_package() -> None:
    assert (ROOT / "nst" / "py.typed").is_file()
    assert "Typing :: Typed" in PROJECT["project"]["classifiers"]


def test_the_citation_is_of_this_project() -> None:
    citation = yaml.safe_load(words("CITATION.cff"))
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()  # what the format asks for
    assert citation["license"] == PROJECT["project"]["license"]
    assert "version" not in citation
    (method,) = citation["references"]
    assert method["url"].endswith("1508.06576") and method["authors"][0]["family-names"] == "Gatys"


def test_the_image_copies_what_the_wheel_is_made_of() -> None:
    text = words("Dockerfile")
    copied = re.findall(r"^COPY (.*) /source\S*$", text, re.MULTILINE)
    wheel = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {*wheel["packages"], *wheel["force-include"], "pyproject.toml", PROJECT["project"]["readme"], "LICENSE"}
    assert {name for names in copied for name in names.split()} == needed
    kept = {line.removeprefix("!") for line in words(".dockerignore").splitlines() if line.startswith("!")}
    assert kept == needed
    extras = re.findall(r"/source\[([\w,]+)\]", text)[0].split(",")
    assert {*extras} <= PROJECT["project"]["optional-dependencies"].keys()


def test_reports_ask_for_what_the_command_prints() -> None:
    forms = [yaml.safe_load(words(f".github/ISSUE_TEMPLATE/{name}.yml")) for name in ("bug", "idea")]
    for form in forms:
        assert {"name", "description", "body"} <= form.keys()
        assert any("nst env" in str(part["attributes"].get("label")) for part in form["body"])
    required = [part["id"] for part in forms[0]["body"] if part.get("validations", {}).get("required")]
    assert required == ["command", "result", "env"]


def test_the_workflow_runs_what_a_change_must_pass_and_needs_no_secret() -> None:
    workflow = yaml.safe_load(words(".github/workflows/ci.yml"))
    assert {"run": ".ci/run"} in workflow["jobs"]["everything"]["steps"]
    assert workflow["permissions"] == {"contents": "read"}
    assert "secrets" not in words(".github/workflows/ci.yml")


def test_a_change_must_build_and_be_spelled() -> None:
    text = words(".ci/run")
    assert "\ncodespell\n" in text and any(x.startswith("codespell") for x in EXTRAS["test"])
    assert "python -m build" in text
    assert "twine check --strict" in text


def test_the_source_release_holds_what_its_tests_read() -> None:
    included = PROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    for name in (
        "CITATION.cff",
        "Dockerfile",
        "mkdocs.yml",
        ".dockerignore",
        ".github",
        ".ci",
        "tools",
        "tests",
        "docs",
        "configs",
    ):
        assert name in included, name
