"""`nst env`: what it says, in process, and that nobody's name or secret is in it."""

from __future__ import annotations

import platform
import re
import tomllib
from pathlib import Path

import pytest
import torch

from nst import __version__
from nst.cli.env import command
from nst.cli.main import main
from nst.network import weights


def said(capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, str]]:
    """Runs the command and returns its rows by part and name."""
    assert main(["env"]) == 0
    found: dict[str, dict[str, str]] = {}
    captured = capsys.readouterr()
    assert captured.err == ""
    for line in captured.out.splitlines():
        if line.startswith("  "):
            name, _, value = line.strip().partition("  ")
            found[[*found][-1]][name] = value.strip()
        else:
            found[line] = {}
    return found


def test_it_says_what_a_report_needs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    monkeypatch.setenv("NST_STUDIO_AUTH", "name:password")
    found = said(capsys)
    assert [*found] == ["versions", "extras", "machine", "devices", "what a run takes", "environment"]
    assert [*found["versions"]][:4] == ["nst", "python", "torch", "torchvision"]
    assert found["versions"]["nst"] == __version__
    assert found["versions"]["python"].startswith(platform.python_version())
    assert torch.__version__.startswith(found["versions"]["torch"])
    assert [*found["extras"]] == ["cluster", "studio", "video"]
    assert f"{torch.get_num_threads()} within a step" == found["machine"]["threads"]
    assert " free of " in found["machine"]["memory"]
    assert found["devices"]["cpu"] == "always there"
    assert found["what a run takes"]["precision"] in ("32-true", "bf16-mixed")
    assert found["environment"]["ONEDNN_MAX_CPU_ISA"] == "AVX2"
    assert "password" not in str(found)


def test_it_knows_the_packages_of_every_extra() -> None:
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    extras = tomllib.loads(text)["project"]["optional-dependencies"]
    people = {name: packages for name, packages in extras.items() if name not in ("test", "docs", "judge")}
    named = {name: [re.split(r"[<>=\[]", x)[0] for x in packages] for name, packages in people.items()}
    assert {name: [*packages] for name, packages in command.EXTRAS.items()} == named


def test_it_names_the_network_that_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys)["what a run takes"]["network"].startswith("VGG19 if it can be downloaded, else the compact")
    file = weights._cached("vgg19")
    file.parent.mkdir(parents=True)
    file.touch()
    assert said(capsys)["what a run takes"]["network"] == "VGG19, from the cache"


def test_it_names_nobody(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    found = said(capsys)
    assert str(tmp_path) not in str(found)
    assert found["environment"]["TORCH_HOME"] == str(Path("~/torch"))


def test_missing_packages_are_named() -> None:
    assert command._state(["numpy", "no-such-package"]).endswith(", not installed: no-such-package")
    assert command._state(["no-such-package"]) == "not installed: no-such-package"


def test_an_unknown_option_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["env", "--fast"]) == 2
    assert "Unrecognized arguments: --fast; see nst env --help" in capsys.readouterr().err
