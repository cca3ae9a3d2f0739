"""The README's own words, run."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw

from nst.cli.main import main
from nst.losses.distance import DISTANCES
from nst.network.weights import load
from tests.helpers import draw

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text()
SMALL = ["--model.backbone", "vgg16", "--model.weights", "random:0", "--data.size", "48", "--data.steps", "1"]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


@pytest.fixture(autouse=True)
def _clone(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    draw(tmp_path / "photo.jpg", seed=1)
    for seed, name in enumerate(("painting.jpg", "night.jpg", "glass.png"), 2):
        draw(tmp_path / name, seed=seed)
    regions = Image.new("RGB", (60, 40), "blue")
    ImageDraw.Draw(regions).rectangle((0, 20, 60, 40), fill="yellow")
    regions.save(tmp_path / "map.png")
    Image.linear_gradient("L").resize((60, 40)).save(tmp_path / "face.png")


def test_its_commands_run() -> None:
    commands = [part for line in "".join(blocks("sh")).splitlines() for part in line.split(" && ")]
    fits = [shlex.split(command)[1:] for command in commands if command.startswith("nst ")]
    assert len(fits) == 6
    for command in fits:
        assert main([*command, *SMALL, "--trainer.enable_progress_bar", "false"]) == 0
        assert max(Image.open("picture.png").size) == 48
        Path("picture.png").unlink()
    others = [command for command in commands if not command.startswith("nst ")]
    assert others == ["python3 -m pip install .", "python3 -m pip install '.[test]'", "python3 -m pytest"]


def test_its_settings_run() -> None:
    photograph = draw(Path("wide.png"), (60, 40), seed=5)
    for settings in blocks("yaml"):
        Path("c.yaml").write_text(settings)
        options = ["--config", "c.yaml", "--data.content", str(photograph), "--trainer.enable_progress_bar", "false"]
        assert main(["fit", *options, *SMALL, "--output", "picture.png"]) == 0
        Path("picture.png").unlink()


def test_ci_installs_by_its_test_command() -> None:
    assert "pip install -q --disable-pip-version-check '.[test]'" in (ROOT / ".ci" / "run").read_text()


def test_its_python_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    convolutions = load("vgg16", "random:0").convolutions
    positions = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
    state = {}
    for position, (weight, bias) in zip(positions, convolutions, strict=True):
        state[f"features.{position}.weight"], state[f"features.{position}.bias"] = weight, bias
    torch.save(state, "vgg16.pth")
    (code,) = blocks("python")
    exec(code.replace("size=256, steps=100", "size=48, steps=1"), {})
    assert max(Image.open("picture.png").size) == 48


def test_its_flags_exist(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["fit", "--help"])
    text = capsys.readouterr().out
    for flag in set(re.findall(r"--(?:data|model|trainer)\.\w+", TEXT)):
        assert flag in text, flag


def test_every_style_distance_is_in_its_table() -> None:
    for name in DISTANCES:
        assert f"`{name}`" in TEXT, name


def test_its_architecture_names_every_module() -> None:
    floors = re.split(r"[├└]─ ", TEXT.partition("\nnst/\n")[2].partition("```")[0])
    named = {floor.partition("/")[0]: floor for floor in floors}
    for path in (ROOT / "nst").glob("*/*.py"):
        if not path.stem.startswith("__"):
            assert re.search(rf"\b{path.stem}\b", named[path.parent.name].partition("/")[2]), path


def test_every_config_is_in_its_table() -> None:
    for config in (ROOT / "configs").glob("*.yaml"):
        assert f"(configs/{config.name})" in TEXT, config.name


def test_its_files_exist_and_its_pictures_are_small() -> None:
    for target in re.findall(r"\]\(((?!http)[^)#]+)\)", TEXT):
        assert (ROOT / target).exists(), target
    for picture in re.findall(r"!\[.*?\]\((.*?)\)", TEXT):
        assert (ROOT / picture).stat().st_size < 400_000
        assert max(Image.open(ROOT / picture).size) <= 1400
