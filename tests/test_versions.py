"""The script that tests the promised versions reads them right, and says what came of each set."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))

import versions
from versions import ROOT, Outcome, Requirements, bounds


def test_bounds_are_those_that_a_requirement_names() -> None:
    lines = [
        "torch>=2.6",
        "jsonargparse[signatures] >= 4.40",
        "scikit-image<1,>=0.25; python_version >= '3.12'",
        "types-PyYAML",
    ]
    assert bounds(lines) == {"torch": "2.6", "jsonargparse": "4.40", "scikit-image": "0.25"}


def test_a_bound_of_the_interpreter_is_none_of_the_package() -> None:
    assert bounds(["tomli; python_version >= '3.11'"]) == {}


def test_everything_that_the_package_needs_has_a_lower_bound() -> None:
    requirements = Requirements.read(ROOT / "pyproject.toml")
    assert len(bounds(requirements.package)) == len(requirements.package)
    assert len(bounds(requirements.build)) == len(requirements.build)


def test_constraints_hold_build_and_tests_too(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["hatchling>=1.27"]\n[project]\ndependencies = ["jsonargparse[signatures]>=4.40"]\n'
        '[project.optional-dependencies]\ntest = ["pytest>=8", "types-PyYAML"]\n'
    )
    assert (
        Requirements.read(tmp_path / "pyproject.toml").constraints()
        == "jsonargparse==4.40\nhatchling==1.27\npytest==8\n"
    )


@pytest.mark.parametrize("passed", [True, False])
def test_the_outcome_is_the_exit_code(
    passed: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    outcomes = {
        "lowest": Outcome(passed, "1 failed in 9.00s", {"Python": "3.11.7", "torch": "2.6.0"}),
        "newest": Outcome(False, "not installed"),
    }
    monkeypatch.setattr(versions, "attempt", lambda kind, *_: outcomes[kind])
    assert versions.main(["--only", "lowest"]) == (0 if passed else 1)
    assert versions.main([]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-5:] == [
        "                lowest          newest",
        "Python          3.11.7",
        "torch           2.6.0",
        "lowest          1 failed in 9.00s",
        "newest          not installed",
    ]


def test_a_python_that_is_not_there_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        versions.main(["--python", "python0.0"])
    assert "Expected --python to be a Python that can be run, but got python0.0" in capsys.readouterr().err


def test_a_command_is_shown_and_its_last_line_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = "import os; print(os.getcwd()); print('bad'); print(); raise SystemExit(3)"
    assert versions.run(sys.executable, "-c", code, folder=tmp_path) == (3, "bad")
    assert capsys.readouterr().out == f"{tmp_path}\nbad\n\n"
