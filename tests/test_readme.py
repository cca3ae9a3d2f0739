"""The README's own words, run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from PIL import Image

from nst.cli.main import main
from tests.helpers import draw
from tests.test_architecture import FLOORS

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text()
SMALL = ["--model.backbone", "compact", "--model.weights", "imagenet", "--data.size", "48", "--data.steps", "1"]
MOST_LINES = 150
OTHERS = ["python3 -m pip install .", "python3 -m pip install '.[test]'", "python3 -m pytest"]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


def pictures() -> list[str]:
    return re.findall(r"!\[.*?\]\((.*?)\)", TEXT)


@pytest.fixture(autouse=True)
def _files(tmp_path: Path) -> None:
    draw(tmp_path / "photo.jpg", seed=1)
    draw(tmp_path / "painting.jpg", seed=2)


def test_it_is_short_and_begins_with_one_row_of_pictures() -> None:
    assert len(TEXT.splitlines()) <= MOST_LINES
    assert TEXT.startswith("# nst\n\n![")
    assert pictures()[0] == "docs/row.jpg"


def test_what_others_do_not_is_six_things_each_with_a_picture() -> None:
    section = TEXT.partition("\n## What it does that others do not\n")[2].partition("\n## ")[0]
    assert len(re.findall(r"^\*\*", section, re.MULTILINE)) == 6
    assert section.count("![") == 6


def test_its_commands_run() -> None:
    commands = [part for line in "".join(blocks("sh")).splitlines() for part in line.split(" && ")]
    fits = [shlex.split(command)[1:] for command in commands if command.startswith("nst ")]
    assert len(fits) == 2
    for command in fits:
        assert main([*command, *SMALL, "--trainer.enable_progress_bar", "false"]) == 0
        assert max(Image.open("picture.png").size) == 48
        Path("picture.png").unlink()
    assert [command for command in commands if not command.startswith("nst ")] == OTHERS


def test_ci_installs_by_its_test_command() -> None:
    assert "pip install -q --disable-pip-version-check '.[test]'" in (ROOT / ".ci" / "run").read_text()


def test_its_python_runs() -> None:
    (code,) = blocks("python")
    small = 'preset="quick", size=48, steps=1, backbone="compact", weights="imagenet"'
    exec(code.replace('preset="quick"', small), {})
    assert max(Image.open("picture.png").size) == 48


def test_its_flags_exist(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["fit", "--help"])
    text = capsys.readouterr().out
    for flag in set(re.findall(r"--(?:data|model|trainer)\.\w+", TEXT)):
        assert flag in text, flag


def test_its_architecture_names_every_floor() -> None:
    section = TEXT.partition("\n## Architecture\n")[2].partition("\n## ")[0]
    floors = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    assert floors == FLOORS[::-1]


def test_its_pictures_are_small() -> None:
    for picture in pictures():
        assert (ROOT / picture).stat().st_size < 400_000
        assert picture.endswith(".svg") or max(Image.open(ROOT / picture).size) <= 1600
