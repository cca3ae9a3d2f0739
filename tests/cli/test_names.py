"""Names of files that are odd but allowed: they are found, shown in one line, and remembered."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nst.cli.main import main
from nst.run import record
from tests.helpers import TINY, draw, fit

pytestmark = pytest.mark.usefixtures("pair")

NAMES = {
    "not UTF-8": os.fsdecode(b"caf\xe9.png"),
    "a newline": "new\nline.png",
    "a percent sign": "100%s %d.png",
    "braces": "{name}.png",
    "brackets": "a[1].png",
    "a dash": "-data.png",
    "a colon": "a: b.png",
    "a quote": 'it\'s "so".png',
    "a list": "[x].png",
    "two hundred and fifty-five bytes": "é" * 125 + "x.png",
    "other letters": "画 Müller.png",
    "an escape": "\x1b[31mred.png",
}


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    found = NAMES[request.param]
    try:
        draw(Path(found).absolute(), seed=3)
    except (OSError, UnicodeError):
        pytest.skip("the file system does not take such a name")
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="file systems of others refuse most of these names")
def test_a_picture_with_an_odd_name_is_painted_and_remembered(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    bar = ["--trainer.enable_progress_bar", "true"]
    arguments = ["fit", *TINY, *bar, f"--data.content={name}", "--data.style", "painting.png", "--data.steps", "1"]
    code = main([*arguments, "--output", "a.png"])
    out, err = capfd.readouterr()
    if name == NAMES["not UTF-8"]:  # which the parser of flags cannot read
        assert code == 2
        assert "Expected --data.content to be a name in UTF-8, but got one with other bytes; rename the file" in err
        assert err.count("\n") == 1
        return
    assert code == 0
    assert "Traceback" not in out + err
    assert "\x1b[31m" not in out
    assert record.read("a.png")["files"]["data.content"]["path"] == str(Path(name).absolute())
    code = main(["fit", "--config", "a.png", "--output", "b.png", *bar[:1], "false"])
    assert code == (2 if "\n" in name or "\x1b" in name else 0)  # a record takes no text with controls
    if code == 0:
        np.testing.assert_array_equal(np.asarray(Image.open("a.png")), np.asarray(Image.open("b.png")))
    assert fit(f"--output={name}", steps=1) == (2 if "é" not in name and len(os.fsencode(name)) > 255 else 0)


@pytest.mark.skipif(sys.platform != "linux", reason="file systems of others refuse most of these names")
def test_an_odd_name_ends_no_batch(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    command = ["batch", *TINY, "--data.style", "painting.png", "--data.steps", "1", "--output", "out/made-{name}.png"]
    draw(Path("folder.png"), seed=4)
    hopeless = name == NAMES["not UTF-8"] or len(os.fsencode(name)) > 250
    assert main([*command, "--data.content", "*.png"]) == (1 if hopeless else 0)
    out = capfd.readouterr().out
    lines = out.strip().splitlines()
    assert len(lines) == 5  # photo, painting, folder and the odd one, and the last line
    assert "4 pictures: " in lines[-1]
    assert "Traceback" not in out


def test_brackets_are_a_name_before_they_are_a_pattern() -> None:
    draw(Path("a[1].png"), seed=3)
    draw(Path("a1.png"), seed=4)
    command = ["batch", *TINY, "--data.style", "painting.png", "--data.steps", "1", "--output", "out"]
    assert main([*command, "--data.content", "a[1].png"]) == 0
    assert [path.name for path in Path("out").iterdir()] == ["a[1].png"]


def test_an_input_that_vanishes_on_the_way_takes_no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    from nst.optimise.module import StyleTransfer

    begin = StyleTransfer.begin_level

    def vanish(*arguments: object) -> None:
        for path in ("photo.png", "painting.png"):
            Path(path).unlink(missing_ok=True)
        begin(*arguments)  # type: ignore[arg-type]  # as it was called

    monkeypatch.setattr(StyleTransfer, "begin_level", vanish)
    assert fit("--output", "a.png", steps=2) == 0
    draw(Path("photo.png"), seed=1)
    draw(Path("painting.png"), seed=2)
    command = ["batch", *TINY, "--data.style", "painting.png", "--data.steps", "1", "--output", "out"]
    assert main([*command, "--data.content", "photo.png"]) == 0
    assert Path("out/photo.png").exists()
