"""Samples: they are there, small, found by name alone, and made by their scripts."""

from __future__ import annotations

import re
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nst.cli.main import main
from nst.errors import InputError
from nst.run import record
from nst.run.replay import Replay
from nst.scene import samples
from nst.scene.data import PictureData
from nst.types import InputPath, Pixels
from tests.helpers import TINY

ROOT = Path(__file__).parents[2]
NAMES = [*samples.PHOTOGRAPHS, *samples.PAINTINGS]


@pytest.mark.parametrize("name", NAMES)
def test_a_sample_is_there_and_has_its_provenance(name: str) -> None:
    file = samples.path(f"sample:{name}")
    with Image.open(file) as picture:
        assert picture.mode == "RGB"
        assert min(picture.size) >= 300
        assert max(picture.size) <= 1000
    if name in samples.PAINTINGS and name != "night":
        assert file.stat().st_size <= 300_000
    assert f"`sample:{name}`" in (ROOT / "nst" / "assets" / "README.md").read_text(encoding="utf-8")
    assert f"sample:{name}" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_a_sample_alone_is_what_it_was() -> None:
    assert samples.path("sample").name == "rocket.jpg"
    assert samples.path("sample", "data.style[1]").name == "night.jpg"


def test_samples_are_read_from_data_and_styles() -> None:
    data = PictureData(InputPath("sample:chelsea"), [InputPath("sample:glass"), InputPath("sample:coffee")], Pixels(48))
    data.setup()
    assert data.names == ("chelsea.png", "glass.jpg and coffee.png")
    assert {key: file.name for key, file in data.files.items()} == {
        **{"data.content": "chelsea.png", "data.style[0]": "glass.jpg", "data.style[1]": "coffee.png"}
    }


@pytest.mark.parametrize(
    ("flag", "name", "words"),
    [
        (
            "content",
            "sample:chelsee",
            "sample:rocket, sample:chelsea,.* but got sample:chelsee .did you mean sample:ch",
        ),
        (
            "style",
            "sample:wodcut",
            "file or one of sample:night, .* but got sample:wodcut .did you mean sample:woodcut..",
        ),
        ("style", "sample:../assets/night.jpg", "but got sample:../assets/night.jpg"),
        ("style", "sample:", "Expected --data.style to be a file or one of sample:night, .* but got sample:"),
    ],
)
def test_an_unknown_sample_is_refused_in_one_line(
    flag: str, name: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", *TINY, f"--data.{flag}", name]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(words, line), line


def test_only_names_of_the_list_are_samples() -> None:
    assert all(samples.is_sample(f"sample:{name}") for name in NAMES)
    others: list[object] = [
        "sample:",
        "sample:night.jpg",
        "sample:/etc/passwd",
        "samples",
        "rocket",
        None,
        3,
        ["sample"],
        {},
    ]
    for other in others:
        assert not samples.is_sample(other)
    with pytest.raises(InputError, match="got sample:a b"):
        samples.path("sample:a\nb")


def test_a_picture_of_samples_is_made_again_from_its_record(tmp_path: Path) -> None:
    names = ["--data.content", "sample:coffee", "--data.style", "[sample:dots, {image: sample:ink, weight: 2}]"]
    assert main(["fit", *TINY, "--data.steps", "1", *names, "--output", "first.png"]) == 0
    config = record.read("first.png")["config"]
    assert config["data"]["content"] == "sample:coffee"
    assert [x if isinstance(x, str) else x["image"] for x in config["data"]["style"]] == ["sample:dots", "sample:ink"]
    files = record.read("first.png")["files"]
    assert Path(files["data.style[1]"]["path"]).name == "ink.jpg"
    assert (
        main(["fit", "--config", "first.png", "--trainer.enable_progress_bar", "false", "--output", "again.png"]) == 0
    )
    first, again = (np.asarray(Image.open(name)) for name in ("first.png", "again.png"))
    np.testing.assert_array_equal(first, again)


def test_a_record_may_name_samples_and_no_code() -> None:
    known = {"data": {"content", "style"}, "model": set(), "trainer": set()}
    given = {"data": {"content": "sample:chelsea", "style": [{"image": "sample:ink"}, "sample"]}}
    assert Replay(given, {}, known, "a.png").config == given


@pytest.mark.slow
@pytest.mark.parametrize("name", [x for x in samples.PAINTINGS if x != "night"])
def test_the_same_seed_paints_the_same_picture(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "tools")
    canvas = import_module("paintings.canvas").Canvas
    paint = import_module(f"paintings.{name}").paint
    first, again = (np.asarray(paint(canvas(192, 152, 1))) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert first.std() > 25
    for module in [x for x in sys.modules if x.partition(".")[0] == "paintings"]:
        monkeypatch.delitem(sys.modules, module)
