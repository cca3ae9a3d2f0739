"""Scenes of a clip side by side, on a cluster: the same frames as one after another."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from nst.cli.main import main
from nst.cli.video.command import scene_runner
from nst.pictures import images
from nst.video import painter
from tests.video.conftest import moved

FLAGS = ["--config", "quick", "--data.size", "96", "--data.min_size", "64", "--data.steps", "[4,4]", "--output", "out"]
FLAGS += ["--trainer.precision", "32-true", "--trainer.accelerator", "cpu", "--data.content", "clip/*.png"]


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Two scenes of two and three frames."""
    folder = tmp_path / "clip"
    folder.mkdir()
    shown = [*(moved(2 * i) for i in range(2)), *(1 - moved(40 + 2 * i, 30) for i in range(3))]
    for i, x in enumerate(shown):
        images.save(x, folder / f"{i}.png")
    return folder


@pytest.mark.slow
def test_scenes_side_by_side_are_those_of_one_process(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("ray", reason="Ray, of the extra `cluster`, is not installed")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as Ray gives to a worker
    assert main(["video", *FLAGS, "--output", "alone"]) == 0
    torch.set_num_threads(threads)
    capsys.readouterr()
    assert main(["video", *FLAGS, "--cluster", "local"]) == 0
    told = capsys.readouterr().out
    assert "2 scenes, which are painted side by side" in told
    assert "made     frames 0 to 1: in out" in told and "made     frames 2 to 4: in out" in told
    for i in range(5):
        assert Path(f"out/{i:06d}.png").read_bytes() == Path(f"alone/{i:06d}.png").read_bytes()
    Path("out/000004.png").unlink()
    stamps = [Path(f"out/{i:06d}.png").stat().st_mtime_ns for i in range(4)]
    assert main(["video", *FLAGS, "--cluster", "local"]) == 0
    told = capsys.readouterr().out
    assert "skipped  frames 0 to 1: painted already, in out" in told and "made     frames 2 to 4" in told
    assert Path("out/000004.png").read_bytes() == Path("alone/000004.png").read_bytes()
    assert [Path(f"out/{i:06d}.png").stat().st_mtime_ns for i in range(4)] == stamps


def test_a_scene_that_fails_is_told_and_the_clip_is_not_written(
    clip: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def outcomes(self: Any, jobs: Any, runner: Any, args: Any) -> Any:
        assert runner is scene_runner
        made = runner(args)
        monkeypatch.setattr(made.clip._whole, "paint", lambda *_: 1 / 0)
        yield from ((job, made.outcome(job)) for job in jobs)

    monkeypatch.setitem(sys.modules, "ray", object())
    monkeypatch.setattr("nst.many.cluster.Cluster.outcomes", outcomes)
    assert main(["video", *FLAGS, "--cluster", "local"]) == 1
    told = capsys.readouterr().out
    assert "1/2  failed   frames 0 to 1: division by zero" in told and "2/2  failed   frames 2 to 4" in told
    assert "clip      out" not in told


def test_scenes_begin_at_cuts_in_whichever_order_they_are_made(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = scene_runner(FLAGS).clip
    assert [x.options for x in job.scenes()] == [["0:2"], ["2:5"]]
    seen: list[tuple[float, float]] = []

    def cut(before: torch.Tensor, after: torch.Tensor) -> bool:
        seen.append((float(before.mean()), float(after.mean())))
        return False

    monkeypatch.setattr(painter, "is_cut", cut)
    first, second = (torch.full((1, 3, 8, 8), x) for x in (0.25, 0.75))
    between = painter.Painter._cut_between
    assert not between(painter._Earlier(0, first, first), 1, second)
    assert not between(painter._Earlier(1, second, second), 0, first)  # as where a pass goes backward
    assert seen == [(0.25, 0.75)] * 2


def test_a_cluster_is_asked_for_before_anything_is_painted(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["video", *FLAGS, "--cluster.cpus", "2"]) == 2
    assert "Expected --cluster with --cluster.cpus, but it was not given" in capsys.readouterr().err
    assert not Path("out").exists()
