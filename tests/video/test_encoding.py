"""Clips to files: containers, transparency, sound packet by packet, and what a container cannot hold."""

from __future__ import annotations

import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from nst.errors import InputError, RunError
from nst.pictures import images
from nst.video.clips import Video, open_clip
from nst.video.encoding import Encoding
from nst.video.painter import Painted
from tests.video.conftest import av, moved, packets, write_clip

TIMES = [Fraction(0), Fraction(1, 10), Fraction(4, 10), Fraction(1, 2)]


def painted(folder: Path, alpha: torch.Tensor | None = None, size: tuple[int, int] = (64, 96)) -> list[Painted]:
    frames = []
    for i, time in enumerate(TIMES):
        images.save(moved(3 * i, 0, *size), folder / f"{i}.png", alpha)
        frames.append(Painted(i, time, folder / f"{i}.png"))
    return frames


def begin(path: Path) -> float:
    """When the first frame is shown."""
    with av.open(str(path)) as clip:
        return float(min(x.pts * x.time_base for x in clip.demux(video=0) if x.pts is not None))


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("a.mp4", {}),
        ("a.mov", {}),
        ("a.mkv", {}),
        ("a.webm", {}),
        ("a.gif", {}),
        ("a.webp", {}),
        ("a.mp4", {"codec": "libx265", "quality": 14, "pixel_format": "yuv444p10le"}),
        ("a.mov", {"codec": "prores_ks"}),
        ("a.mkv", {"codec": "ffv1", "pixel_format": "bgr0"}),
    ],
)
def test_a_clip_comes_back_with_its_times_and_colours(tmp_path: Path, name: str, more: dict[str, Any]) -> None:
    Encoding(tmp_path / name, **more).write(painted(tmp_path), Fraction(10))
    found = list(open_clip(str(tmp_path / name)).frames())
    assert [float(x.time) for x in found] == pytest.approx([float(x) for x in TIMES], abs=0.006)
    for i, frame in enumerate(found):
        assert (frame.picture.rgb - moved(3 * i)).abs().mean() < 0.05
        assert (frame.picture.rgb - moved(3 * i)).mean((0, 2, 3)).abs().max() < 0.02  # no paler
    assert [x.name for x in tmp_path.iterdir() if x.name.startswith(".")] == []


@pytest.mark.parametrize("codec", ["libx265", "hevc"])
def test_a_clip_of_one_or_two_frames_is_written_by_x265(tmp_path: Path, codec: str) -> None:
    painted(tmp_path)
    script = f"""if True:
        from fractions import Fraction
        from pathlib import Path
        from nst.video.encoding import Encoding
        from nst.video.painter import Painted
        frames = [Painted(i, Fraction(i, 10), Path(f"{{i}}.png")) for i in range(2)]
        for count in (1, 2):
            Encoding(Path(f"{{count}}.mp4"), codec="{codec}").write(frames[:count], Fraction(10))
    """
    # glibc fills memory with other bytes than 0, as what the encoder does not set is 0 in most of a young process
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=os.environ | {"MALLOC_PERTURB_": "85"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    for count in (1, 2):
        found = [float(x.time) for x in open_clip(str(tmp_path / f"{count}.mp4")).frames()]
        assert found == pytest.approx([i / 10 for i in range(count)])


def test_players_are_told_of_colours_and_find_the_index_in_front(tmp_path: Path) -> None:
    Encoding(tmp_path / "a.mp4").write(painted(tmp_path, size=(63, 95)), Fraction(10))
    with av.open(str(tmp_path / "a.mp4")) as clip:
        context = clip.streams.video[0].codec_context
        assert (context.name, context.pix_fmt, context.width, context.height) == ("h264", "yuv420p", 94, 62)
        tags = context.color_range, context.colorspace, context.color_primaries, context.color_trc
        assert [int(x) for x in tags] == [1, 1, 1, 1]
    data = (tmp_path / "a.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


@pytest.mark.parametrize("name", ["a.mov", "a.mkv", "a.webm", "a.webp", "a.gif"])
def test_transparency_is_kept(tmp_path: Path, name: str) -> None:
    alpha = (torch.arange(96) >= 48).float().expand(1, 1, 64, 96)
    encoding = Encoding(tmp_path / name)
    encoding.checked(images.Picture(moved(0), alpha))
    encoding.write(painted(tmp_path, alpha), Fraction(10))
    if name == "a.webm":  # FFmpeg's own decoder of VP9 leaves it out
        with av.open(str(tmp_path / name)) as clip:
            assert clip.streams.video[0].metadata["alpha_mode"] == "1"
        return
    for frame in open_clip(str(tmp_path / name)).frames():
        assert frame.picture.alpha is not None
        assert (frame.picture.alpha - alpha).abs().mean() < 0.02


def test_a_container_without_transparency_is_told(tmp_path: Path) -> None:
    clear = images.Picture(moved(0), torch.zeros(1, 1, 64, 96))
    with pytest.raises(InputError, match=r"transparency, but \.mp4 has none; end it in \.mov, .*--video\.alpha none"):
        Encoding(tmp_path / "a.mp4").checked(clear)
    assert Encoding(tmp_path / "folder").checked(clear) is clear


def test_sound_is_copied_packet_by_packet(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "clip.mp4", [moved(i) for i in range(4)], tone=True)
    clip = open_clip(str(source))
    assert isinstance(clip, Video)
    for name in ("a.mp4", "a.mkv", "a.mov"):
        encoding = Encoding(tmp_path / name)
        assert encoding.holds_sound(clip)
        encoding.write(painted(tmp_path), Fraction(10), clip)
        assert [data for _, data in packets(tmp_path / name)] == [data for _, data in packets(source)]
        # a Matroska file begins at 0, and what is before the first frame moves all the others
        times = [[time - begin(x) for time, _ in packets(x)] for x in (tmp_path / name, source)]
        assert times[0] == pytest.approx(times[1], abs=0.002)


def test_a_part_has_the_sound_that_is_heard_in_it(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "clip.mp4", [moved(i) for i in range(20)], tone=True)
    clip = open_clip(str(source))
    assert isinstance(clip, Video)
    frames = [Painted(x.number, x.time + 1, x.path) for x in painted(tmp_path)]  # from 1.0 to 1.6 s
    Encoding(tmp_path / "a.mkv").write(frames, Fraction(10), clip, whole=False)
    heard, found = packets(source), packets(tmp_path / "a.mkv")
    begin = [data for _, data in heard].index(found[0][1])
    assert [data for _, data in found] == [data for _, data in heard[begin : begin + len(found)]]
    assert found[0][0] == pytest.approx(heard[begin][0] - 1, abs=0.002)
    assert 0.4 < len(found) * 1024 / 8000 < 0.8


def test_a_container_that_cannot_hold_the_sound_is_told(tmp_path: Path) -> None:
    clip = open_clip(str(write_clip(tmp_path / "clip.mp4", [moved(i) for i in range(4)], tone=True)))
    silent = open_clip(str(write_clip(tmp_path / "silent.mp4", [moved(0)])))
    for name, told in (("a.webm", r"\.webm"), ("a.gif", r"\.gif"), ("folder", "a folder of frames")):
        with pytest.raises(InputError, match=rf"sound \(aac\), but {told} cannot; .*\.mkv, .*--video\.audio none"):
            Encoding(tmp_path / name).holds_sound(clip)
        assert not Encoding(tmp_path / name).holds_sound(silent)


def test_wrong_outputs_are_told_in_one_line(tmp_path: Path) -> None:
    for output, more, match in (
        ("a.txt", {}, r"end in \.mp4, .*\.webp, or to be a folder for frames, but got .*a\.txt"),
        ("none/a.mp4", {}, r"folder that exists, but .*none does not"),
        ("a.mp4", {"codec": "libx266"}, r"encoder of this FFmpeg, but it has no libx266 \(did you mean libx26"),
        ("a.mp4", {"codec": "aac"}, r"to encode frames, but aac encodes audio"),
        ("a.mp4", {"pixel_format": "rgb12"}, r"one of yuv420p, .* for libx264, but got rgb12"),
        ("a.gif", {"codec": "libx264"}, r"no --video\.codec for a \.gif file"),
    ):
        with pytest.raises(InputError, match=match):
            Encoding(tmp_path / output, **more)  # type: ignore[arg-type]  # of the settings' kinds
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"to be a folder or to end in \.mp4, but .*file is a file"):
        Encoding(tmp_path / "file")


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    frames = painted(tmp_path)
    output = tmp_path / "a.mp4"
    output.write_bytes(b"before")
    with Image.open(frames[0].path) as image:
        image.resize((32, 32)).save(frames[2].path)  # what FFmpeg cannot go on with
    frames[3].path.unlink()
    with pytest.raises(RunError, match=r"Expected to write .*a\.mp4, but the system says: .*frames are kept"):
        Encoding(output).write(frames, Fraction(10))
    assert output.read_bytes() == b"before" and not list(tmp_path.glob(".nst*"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_disk_that_is_full_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = av.open
    monkeypatch.setattr(
        av, "open", lambda file, mode="r", **more: whole("/dev/full" if mode == "w" else file, mode, **more)
    )
    with pytest.raises(RunError, match=r"a\.mkv, but the system says: .*(space|full)"):
        Encoding(tmp_path / "a.mkv").write(painted(tmp_path), Fraction(10))
