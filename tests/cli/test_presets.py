"""Presets by name: listed, printed, found from any folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image

from nst.cli import presets
from nst.cli.main import main
from nst.run import record
from tests.helpers import fit

SMALL = ["--data.size", "48", "--data.steps", "1", "--trainer.enable_progress_bar", "false"]


def test_all_configs_are_presets_with_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    configs = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))
    assert main(["presets"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [path.stem for path in configs]
    assert lines[-3].split(maxsplit=1)[1].startswith("What most people should use: coarse to fine")
    assert all(30 < len(line) < 130 for line in lines)


def test_a_preset_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["presets", "quick"]) == 0
    assert capsys.readouterr().out == presets.paths()["quick"].read_text()
    assert main(["presets", "quik"]) == 2
    assert (
        "a preset, one of best, debug, gatys2015, photo, portrait, quick, starry, texture, tutorial, but got quik (did"
        in (capsys.readouterr().err)
    )


@pytest.mark.parametrize("spelling", [["--config", "debug"], ["--config=debug"], ["-c", "debug"]])
def test_a_preset_is_found_from_any_folder(spelling: list[str]) -> None:
    assert main(["fit", *spelling, *SMALL, "--output", "a.png"]) == 0
    assert max(Image.open("a.png").size) == 48


@pytest.mark.usefixtures("pair")
def test_names_of_files_come_before_presets_and_others_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    Path("starry").write_text("data: {size: 40}\n")
    assert fit("--config", "starry", "--output", "a.png", "--data.size", "32", steps=1) == 0
    assert presets.find("starry") == "starry"
    assert presets.find("best.yaml") == "best.yaml"
    assert presets.find("data: {size: 3}") == "data: {size: 3}"
    assert fit("--config", "stary") == 2
    assert (
        "one of the presets best, debug, gatys2015, photo, portrait, quick, starry, texture, tutorial, but got stary"
        in (capsys.readouterr().err)
    )


@pytest.mark.skipif(sys.platform == "win32", reason="a shell's pipe is meant")
def test_a_reader_that_has_seen_enough_gets_no_error() -> None:
    command = f"{sys.executable} -m nst presets | true"
    made = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert made.stdout + made.stderr == ""


@pytest.mark.usefixtures("pair")
def test_a_run_without_a_config_is_starry_whatever_lies_in_the_folder() -> None:
    Path("starry").write_text("data: {size: 40}\n")
    network = ["--model.backbone", "vgg16", "--model.weights", "random:0", "--data.min_size", "40"]
    pictures = ["--data.content", "photo.png", "--data.style", "painting.png", "--output", "a.png"]
    assert main(["fit", *network, *pictures, *SMALL]) == 0
    made = record.read("a.png")["config"]
    starry = yaml.safe_load(presets.paths()["starry"].read_text())
    assert made["data"]["afar"] == starry["data"]["afar"]
    assert {key: made["model"][key] for key in starry["model"] if key != "optimizer"} == {
        key: value for key, value in starry["model"].items() if key != "optimizer"
    }


@pytest.mark.parametrize(
    ("code", "left"),
    [
        ("from nst.cli.main import main; main(['presets']); main(['--help'])", ["torch", "lightning", "torchvision"]),
        ("import nst.cli.batch, nst.cli.fit", ["tifffile", "tensorboard", "skimage"]),
    ],
)
def test_what_a_command_does_not_need_is_not_loaded(code: str, left: list[str]) -> None:
    found = subprocess.run(
        [sys.executable, "-c", f"import sys; {code}; print([x for x in {left} if x in sys.modules])"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert found.stdout.splitlines()[-1] == "[]"


@pytest.mark.slow
def test_libraries_that_a_command_loads_are_quiet(pair: tuple[Path, Path]) -> None:
    words = ["fit", "--config", "debug", *SMALL, "--data.content", str(pair[0]), "--data.style", str(pair[1])]
    words += ["--trainer.accelerator", "cpu"]
    done = subprocess.run([sys.executable, "-m", "nst", *words], check=True, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("", "")
