"""Painted clips: steadiness, scenes, passes, what is kept, and the command itself."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import weakref
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import nst
from nst.cli.main import main
from nst.cli.settings import JobCLI
from nst.errors import InputError
from nst.pictures import images
from nst.run.stopping import Stop
from nst.video import flow
from nst.video.clips import Frame
from nst.video.painter import Motion, Painted, Painter, hidden, is_cut
from tests.video.conftest import av, moved, packets, write_clip

pytestmark = pytest.mark.slow

FLAGS = ["--config", "quick", "--data.size", "96", "--data.min_size", "64", "--data.steps", "[6,8]"]
FLAGS += ["--trainer.precision", "32-true", "--data.content", "clip.mp4"]


def frames(count: int, speed: int = 2, begin: int = 0) -> list[Frame]:
    pictures = ((moved(speed * i) * 255).round() / 255 for i in range(begin, count))
    return [Frame(i, Fraction(i, 25), images.Picture(x)) for i, x in enumerate(pictures, begin)]


def paint(folder: Path, clip: list[Frame], *flags: str, **motion: Any) -> list[Painted]:
    maker = JobCLI.maker([*FLAGS[:-2], *flags], Stop())
    return list(Painter(maker, folder, Motion(**{"share": 0.5, **motion}), []).paint(clip, len(clip)))


def results(painted: list[Painted]) -> list[torch.Tensor]:
    return [images.load(x.path).rgb for x in painted]


def flicker(made: list[torch.Tensor], speed: int) -> float:
    """The mean squared change along the true motion."""
    inner = [(b[..., : -2 * speed] - a[..., speed:-speed]).square().mean() for a, b in pairwise(made)]
    return float(torch.stack(inner).mean())


def test_frames_follow_from_those_before_and_are_steadier_than_stills(tmp_path: Path) -> None:
    clip = frames(4)
    ours = results(paint(tmp_path / "ours", clip))
    alone = [results(paint(tmp_path / str(x.number), [x]))[0] for x in clip]
    assert torch.equal(ours[0], alone[0])
    assert flicker(ours, 2) < 0.3 * flicker(alone, 2)
    assert (ours[3] - clip[3].picture.rgb).abs().mean() > 0.03  # and it is painted


def test_what_is_there_is_not_made_again_and_the_rest_is_the_same(tmp_path: Path) -> None:
    whole = paint(tmp_path / "whole", frames(5))
    part = paint(tmp_path / "part", frames(3))
    stamps = [x.path.stat().st_mtime_ns for x in part]
    resumed = paint(tmp_path / "part", frames(5))
    assert [x.path.stat().st_mtime_ns for x in resumed[:3]] == stamps
    for a, b in zip(whole, resumed, strict=True):
        assert a.path.read_bytes() == b.path.read_bytes()


def test_a_scene_begins_anew_also_after_a_restart(tmp_path: Path) -> None:
    dark = [Frame(i, Fraction(i, 25), images.Picture(1 - moved(40 + 2 * i, 30))) for i in range(3, 6)]
    assert is_cut(moved(4), dark[0].picture.rgb) and not is_cut(moved(0), moved(3))
    clip = [*frames(3), *dark]
    whole = paint(tmp_path / "whole", clip)
    alone = paint(tmp_path / "alone", dark)
    for a, b in zip(whole[3:], alone, strict=True):  # no trail of what was before
        assert a.path.read_bytes() == b.path.read_bytes()
    paint(tmp_path / "part", clip[:5])
    for a, b in zip(whole, paint(tmp_path / "part", clip), strict=True):
        assert a.path.read_bytes() == b.path.read_bytes()


def test_the_folder_of_another_clip_is_refused(tmp_path: Path) -> None:
    paint(tmp_path / "a", frames(1))
    others: list[tuple[list[str], dict[str, Any]]] = [
        (["--data.size=80"], {}),
        ([], {"temporal_weight": 1.0}),
        ([], {"passes": 2}),
    ]
    for flags, motion in others:
        with pytest.raises(InputError, match=r"a to be empty or to hold frames of this clip.*--video\.folder"):
            paint(tmp_path / "a", frames(1), *flags, **motion)
    with pytest.raises(InputError, match=r"no --budget for a clip.*fewer --data\.steps"):
        paint(tmp_path / "b", frames(1), "--budget=5s")
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"reach": (2, 1)}, r"--video\.reach to ascend .* but got 2,1"),
        ({"share": 0.0}, r"--video\.share to be above 0"),
        ({"passes": 0}, r"--video\.passes to be 1 or more, but got 0"),
        ({"temporal_weight": float("nan")}, r"change --video\.temporal_weight"),
    ]
    for motion, match in wrong:
        with pytest.raises(InputError, match=match):
            Motion(**motion)


def test_what_hides_the_result_is_not_what_the_next_frame_follows_from(tmp_path: Path) -> None:
    alpha = (torch.arange(96) >= 30).float().expand(1, 1, 64, 96)
    clip = [Frame(x.number, x.time, images.Picture(x.picture.rgb, alpha)) for x in frames(2)]
    painted = paint(tmp_path / "clear", clip)
    found = images.load(painted[1].path)
    assert found.alpha is not None and torch.equal(found.alpha, alpha)
    assert (tmp_path / "clear" / "whole" / "000001.png").exists()
    coloured = paint(tmp_path / "coloured", frames(2), "--data.color=content")
    whole = images.load(tmp_path / "coloured" / "whole" / "000001.png").rgb
    assert (images.load(coloured[1].path).rgb - whole).abs().mean() > 0.01


def test_large_motion_is_made_coarse_to_fine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    whole = JobCLI.begin

    def begin(job: Any) -> None:
        whole(job)
        sizes.append(len(job.datamodule.levels))

    monkeypatch.setattr(JobCLI, "begin", begin)
    paint(tmp_path / "slow", frames(2, speed=2))
    paint(tmp_path / "fast", frames(2, speed=14))
    assert sizes == [2, 1, 2, 3]  # the whole pyramid, one level, the whole pyramid, from half the size on


def test_passes_go_backward_too(tmp_path: Path) -> None:
    clip = frames(3)
    once, twice = results(paint(tmp_path / "1", clip)), results(paint(tmp_path / "2", clip, passes=2))
    assert len(twice) == 3 and flicker(twice, 2) < 1.5 * flicker(once, 2)
    first = [images.load(tmp_path / "2" / "pass1" / f"{i:06d}.png").rgb for i in range(3)]
    assert all(torch.equal(a, b) for a, b in zip(first, once, strict=True))
    assert not torch.equal(twice[2], once[2])
    again = paint(tmp_path / "2", clip, passes=2)
    assert all(torch.equal(a, b) for a, b in zip(results(again), twice, strict=True))


def test_streamed_frames_are_the_same(tmp_path: Path) -> None:
    whole = results(paint(tmp_path / "whole", frames(2)))
    bands = results(paint(tmp_path / "bands", frames(2), "--model.streaming=on"))
    for a, b in zip(whole, bands, strict=True):
        assert (a - b).abs().mean() < 0.02  # rounding turns the signs of some steps of Adam


def test_the_command_paints_a_clip_with_its_sound(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_clip(tmp_path / "clip.mp4", [moved(2 * i) for i in range(5)], tone=True)
    args = ["video", *FLAGS, "--output", "a.mp4", "--video.share", "0.5"]
    assert main([*args, "--video.preview", "4"]) == 0
    out = capsys.readouterr().out
    assert "clip      a.mp4" in out and "poster    a.mp4.poster.jpg" in out and "frames: 5/5" in out
    with Image.open("a.mp4.preview.jpg") as preview, Image.open("a.mp4.poster.jpg") as poster:
        assert preview.size[0] < poster.size[0]
    assert [data for _, data in packets(Path("a.mp4"))] == [data for _, data in packets(Path("clip.mp4"))]
    with av.open("a.mp4") as clip:
        assert [float(x.pts * x.time_base) for x in clip.decode(video=0)] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    stamp = Path("a.mp4.frames/000003.png").stat().st_mtime_ns
    assert main(args) == 0  # nothing but the file is made again
    assert Path("a.mp4.frames/000003.png").stat().st_mtime_ns == stamp
    assert main([*args[:-4], "--output", "part", "--video.frames", "1:3", "--video.audio", "none"]) == 0
    assert sorted(x.name for x in Path("part").glob("*.png")) == ["000001.png", "000002.png"]
    events = list(Path("a.mp4.frames/curves").glob("events*"))
    assert events
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator("a.mp4.frames/curves").Reload()
    assert {"total", "content", "style", "temporal"} <= set(board.Tags()["scalars"])
    assert [x.step for x in board.Scalars("temporal")] == [1, 2, 3, 4]


def test_python_yields_frames_as_they_are_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i in range(3):
        images.save(moved(2 * i), tmp_path / f"f{i}.png")
    small: dict[str, Any] = {"preset": "quick", "size": 96, "min_size": 64, "steps": [6, 8]}
    small |= {"trainer": {"precision": "32-true"}, "motion": {"share": 0.5}}
    painted = nst.stylize_video(str(tmp_path / "f*.png"), "sample", folder=tmp_path / "out", **small)
    first = next(painted)
    assert first.size == (96, 64) and not (tmp_path / "out" / "000001.png").exists()
    rest = list(painted)
    assert len(rest) == 2 and capsys.readouterr().out == ""
    np.testing.assert_array_equal(np.asarray(first), np.asarray(Image.open(tmp_path / "out" / "000000.png")))
    some = nst.stylize_video(tmp_path / "f*.png", "sample", folder=tmp_path / "some", frames=slice(1, 2), **small)
    assert len(list(some)) == 1
    with pytest.raises(InputError, match=r"frames to be a slice such as slice\(100, 200\)"):
        next(nst.stylize_video("f.mp4", "sample", folder="x", frames=slice(0, 9, 2)))


def test_wrong_flags_are_told_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_clip(tmp_path / "clip.mp4", [moved(0)] * 2)
    images.save(moved(0), tmp_path / "p.webp")
    for flags, match in (
        (["--video.frames", "9:3"], "expected frames such as 100:200, but got 9:3"),
        (["--video.reach", "a"], "expected numbers of frames such as 1,2,4, but got a"),
        (["--video.rate", "0"], "expected frames a second such as 25 or 30000/1001, but got 0"),
        (["--video.flow", "dsi"], "Expected --video.flow to be dis, raft or a folder of .flo files, but got dsi"),
        (["--video.frames", "5:9"], "Expected --video.frames to be frames of the clip, but it ends before 5"),
        (["--output", "clip.mp4"], "not to overwrite what the picture is made of"),
        (["--output", "p.webp", "--data.style", "p.webp"], "not to overwrite what the picture is made of"),
        (["--output", "frames", "--video.folder", "x"], "Expected no --video.folder where --output is a folder"),
        (["--video.wrong", "1"], "Expected a known option, but got --video.wrong"),
        (["--data.size", "x"], "Expected --data.size"),
    ):
        assert main(["video", *FLAGS, "--output", "a.mp4", *flags]) == 2, flags
        error = capsys.readouterr().err
        assert match in error and error.count("\n") == 1, error
    assert not Path("a.mp4").exists()


def test_without_the_packages_there_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [x for x in sys.modules if x.startswith("nst.video")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "av", None)
    assert main(["video", *FLAGS, "--output", "a.mp4"]) == 2
    assert "av is not installed; give python3 -m pip install 'nst[video]'" in capsys.readouterr().err


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.mp4", [moved(2 * i) for i in range(6)])
    command = [sys.executable, "-m", "nst", "video", *FLAGS, "--output"]
    assert subprocess.run([*command, "whole.mkv"], check=False).returncode == 0
    run = subprocess.Popen([*command, "cut.mkv"])
    deadline = time.monotonic() + 120
    while not (tmp_path / "cut.mkv.frames/000002.png").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    run.kill()
    run.wait()
    assert not (tmp_path / "cut.mkv").exists() and not (tmp_path / "cut.mkv.frames/000005.png").exists()
    assert subprocess.run([*command, "cut.mkv"], check=False).returncode == 0
    for i in range(6):
        name = f"{i:06d}.png"
        whole, cut = (tmp_path / f"{x}.mkv.frames" / name for x in ("whole", "cut"))
        assert whole.read_bytes() == cut.read_bytes()


def test_ctrl_c_says_what_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_clip(tmp_path / "clip.mp4", [moved(2 * i) for i in range(4)])
    whole = flow.dis

    def stops(source: torch.Tensor, target: torch.Tensor, first: int = 0, second: int = 0) -> torch.Tensor:
        if first == 2:
            raise KeyboardInterrupt
        return whole(source, target)

    monkeypatch.setattr(flow, "dis", stops)
    assert main(["video", *FLAGS, "--output", "a.mp4"]) == 128 + signal.SIGINT
    captured = capsys.readouterr()
    assert "2 painted frames are kept in a.mp4.frames: the same command goes on from there" in captured.out
    assert "stopped by SIGINT" in captured.err


def test_a_shape_that_comes_into_sight_is_told_from_a_rim() -> None:
    seen = torch.ones(1, 1, 64, 96)
    seen[..., :3] = 0
    seen[..., 20:, 40:43] = 0
    assert hidden(seen) == 0
    seen[..., 20:40, 50:70] = 0
    assert hidden(seen) == pytest.approx(16 * 16 / (64 * 96), abs=0.02)
    assert hidden(0 * seen) == 1


def test_no_frame_keeps_the_memory_of_those_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, jobs = JobCLI.begin, []

    def begin(job: JobCLI) -> None:
        jobs.append(weakref.ref(job))
        whole(job)

    monkeypatch.setattr(JobCLI, "begin", begin)
    paint(tmp_path / "a", frames(4))
    assert [job() is None for job in jobs[:-2]] == [True, True]  # a library holds the last one until the next begins
