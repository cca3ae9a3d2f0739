"""Many pictures in one process: the same pictures as one by one, none twice, and no failure that ends the others."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nst.cli.main import main
from nst.many.jobs import JobRunner
from nst.network.features import Features
from nst.optimise.targets import LevelScan
from nst.run import record
from tests.helpers import TINY, draw, fit

SMALL = [*TINY, "--data.size", "40", "--trainer.accelerator", "cpu", "--data.style", "painting.png"]


@pytest.fixture(autouse=True)
def _photographs(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    (tmp_path / "photos").mkdir()
    for seed, (name, size) in enumerate({"a.png": (48, 40), "b.jpg": (40, 48), "c.webp": (48, 40)}.items()):
        draw(tmp_path / "photos" / name, size, seed=10 + seed)


def batch(*options: str, output: str = "out/", content: str = "photos/*", steps: int = 2) -> int:
    return main(["batch", *SMALL, "--data.steps", str(steps), "--data.content", content, "--output", output, *options])


def made() -> dict[str, int]:
    """The files in the output folder with the time that each was written."""
    return {path.name: path.stat().st_mtime_ns for path in sorted(Path("out").iterdir())}


def same(a: str | Path, b: str | Path) -> bool:
    return bool(np.array_equal(np.asarray(Image.open(a)), np.asarray(Image.open(b))))


@pytest.mark.parametrize("options", [["--model.init", "noise"], ["--data.color", "content", "--model.average", "0.5"]])
def test_pictures_are_those_of_single_runs(options: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    before = set(Path().iterdir())
    assert batch(*options) == 0
    assert set(Path().iterdir()) - before == {Path("out")}  # pictures, and no run folders
    assert list(made()) == ["a.png", "b.png", "c.png"]
    lines = capfd.readouterr().out.splitlines()
    assert lines[0].startswith("1/3  made     photos/a.png: out/a.png, ")
    assert lines[-1] == "3 pictures: 3 made, 0 skipped, 0 failed"
    assert len(lines) == 4
    for name in ("b.jpg", "c.webp"):
        assert fit(*SMALL, *options, "--output", "one.png", content=Path("photos") / name, steps=2) == 0
        assert same("one.png", f"out/{Path(name).stem}.png")
        assert record.read("one.png") == record.read(f"out/{Path(name).stem}.png")


def test_one_network_is_loaded_and_the_painting_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loads, looks = 0, 0
    load, statistics = Features.__init__, LevelScan.statistics

    def counted_load(self: Any, *rest: Any) -> None:
        nonlocal loads
        loads += 1
        load(self, *rest)

    def counted_look(self: Any, painting: Any, distances: Any) -> Any:
        nonlocal looks
        before = len(self.cache)
        found = statistics(self, painting, distances)
        looks += len(self.cache) - before
        return found

    monkeypatch.setattr(Features, "__init__", counted_load)
    monkeypatch.setattr(LevelScan, "statistics", counted_look)
    assert batch("--data.size", "68", "--data.min_size", "48") == 0
    assert (loads, looks) == (1, 2)  # two levels


def test_what_is_made_is_skipped(capfd: pytest.CaptureFixture[str]) -> None:
    assert batch() == 0
    before = made()
    capfd.readouterr()
    assert batch() == 0
    assert made() == before
    out = capfd.readouterr().out
    assert "1/3  skipped  photos/a.png: out/a.png is made already, with these settings" in out
    assert "3 pictures: 0 made, 3 skipped, 0 failed" in out
    # what is seen of a run makes no other picture
    assert batch("--trainer.log_every_n_steps", "3", "--snapshots.every_n_steps", "7") == 0
    assert made() == before
    # a photograph that changed, and one that is new
    draw(Path("photos/a.png"), seed=20)
    draw(Path("photos/d.png"), seed=21)
    assert batch() == 0
    after = made()
    assert [name for name in after if after[name] != before.get(name)] == ["a.png", "d.png"]
    # other settings, and another painting in the same place
    assert batch("--model.style_weight", "3") == 0
    assert not set(made().items()) & set(after.items())
    after = made()
    draw(Path("painting.png"), seed=22)
    assert batch("--model.style_weight", "3") == 0
    assert not set(made().items()) & set(after.items())


def test_a_killed_batch_goes_on_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    make = JobRunner.make

    def killed(self: JobRunner, recipe: Any, output: Path, *rest: Any) -> None:
        if output.name == "c.png":
            raise KeyboardInterrupt
        make(self, recipe, output, *rest)

    monkeypatch.setattr(JobRunner, "make", killed)
    assert batch() == 130
    before = made()
    assert list(before) == ["a.png", "b.png"]
    monkeypatch.setattr(JobRunner, "make", make)
    assert batch() == 0
    assert {name: time for name, time in made().items() if name != "c.png"} == before


def test_one_failure_does_not_end_the_others(capfd: pytest.CaptureFixture[str]) -> None:
    Path("photos/b.jpg").write_text("no picture")
    assert batch() == 1
    captured = capfd.readouterr()
    assert list(made()) == ["a.png", "c.png"]
    assert "2/3  failed   photos/b.jpg: Expected --data.content to be a picture file, but " in captured.out
    assert "3 pictures: 2 made, 0 skipped, 1 failed" in captured.out
    assert captured.err == ""


def test_outputs_may_be_a_pattern_and_configs_pictures() -> None:
    assert batch(output="out/{name}-new.tif", content="photos/a*") == 0
    assert list(made()) == ["a-new.tif"]
    assert record.read("out/a-new.tif")["complete"] is True
    options = ["--config", "out/a-new.tif", "--data.content", "photos/b.jpg", "photos/c.webp", "--output", "out"]
    assert main(["batch", *options]) == 0
    assert record.read("out/b.png")["config"]["data"]["steps"] == 2
    assert fit("--config", "out/b.png", "--output", "one.png", content=Path("photos/b.jpg"), steps=2) == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"content": "photos/*.gif"},
            r"--data.content to match photographs, but photos/\*.gif matches no file; change",
        ),
        ({"output": "photos/{name}.png"}, "not to overwrite what the picture is made of, but photos/a.png is one of"),
        (
            {"output": "out/", "content": "paint*"},
            "painting.jpg and painting.png would both .* to out/painting.png; rename",
        ),
        ({"output": "one.png/"}, r"in a folder that can be made, but one.png cannot \(File exists\)"),
        ({"output": "out/{name}.bmp"}, "--output to end in one of .png"),
    ],
)
def test_wrong_patterns(options: dict[str, Any], words: str, capfd: pytest.CaptureFixture[str]) -> None:
    Path("one.png").touch()
    draw(Path("painting.jpg"))
    assert batch(**options) == 2
    err = capfd.readouterr().err
    assert err.count("\n") == 1
    assert re.search(words, err), err


def test_settings_that_are_wrong_for_all_are_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    assert batch("--data.sise", "3") == 2
    captured = capfd.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert "known option, but got --data.sise (did you mean --data.size?)" in captured.err
    assert main(["batch", *SMALL, "--output", "out"]) == 2
    assert "The following arguments are required: --data.content; see nst batch --help" in capfd.readouterr().err
    os.link("painting.png", "photos/painting.png")
    assert batch(output=".") == 2
    assert "--output not to overwrite" in capfd.readouterr().err


def test_samples_are_photographs_too(capfd: pytest.CaptureFixture[str]) -> None:
    words = ["batch", *SMALL, "--data.steps", "1", "--output", "out/", "--data.content"]
    assert main([*words, "sample:coffee", "photos/a*", "sample:coffee", "sample"]) == 0
    assert list(made()) == ["a.png", "coffee.png", "sample.png"]
    assert capfd.readouterr().out.startswith("1/3  made     sample:coffee: out/coffee.png, ")
    assert fit(*SMALL, "--data.content", "sample:coffee", "--output", "one.png", steps=1) == 0
    assert same("one.png", "out/coffee.png")
    assert main([*words, "sample:coffee"]) == 0
    assert "skipped  sample:coffee" in capfd.readouterr().out
    assert main([*words, "photos/*", "sample:cofee"]) == 2
    assert "did you mean sample:coffee?" in capfd.readouterr().err
