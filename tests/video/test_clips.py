"""Clips from files: frames, times, colours, and what is no clip."""

from __future__ import annotations

import logging
import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from nst.errors import InputError
from nst.pictures import images
from nst.video.clips import Video, open_clip
from tests.video.conftest import av, moved, write_clip


def plain(rgb: tuple[float, float, float], size: tuple[int, int] = (64, 64)) -> torch.Tensor:
    return torch.tensor(rgb).view(1, 3, 1, 1).expand(1, 3, *size).contiguous()


def test_frames_come_with_their_times_which_may_be_uneven(tmp_path: Path) -> None:
    times = [Fraction(0), Fraction(1, 10), Fraction(4, 10), Fraction(5, 10)]
    frames = [moved(3 * i) for i in range(4)]
    clip = open_clip(str(write_clip(tmp_path / "clip.mp4", frames, times)))
    found = list(clip.frames())
    assert [x.number for x in found] == [0, 1, 2, 3] and clip.length == 4
    assert [float(x.time) for x in found] == pytest.approx([float(x) for x in times])
    for one, frame in zip(found, frames, strict=True):
        assert (one.picture.rgb - frame).abs().mean() < 0.02


@pytest.mark.parametrize(
    ("name", "codec", "form", "tolerance"),
    [
        ("a.mp4", "libx264", "yuv420p", 0.015),
        ("a.mp4", "libx265", "yuv420p10le", 0.008),
        ("a.mkv", "ffv1", "yuv444p16le", 0.0045),
        ("a.mov", "prores_ks", "yuv422p10le", 0.008),
        ("a.webm", "libvpx-vp9", "yuv420p", 0.03),
        ("a.avi", "ffv1", "bgr0", 0.0045),
    ],
)
def test_colours_are_those_of_a_still(tmp_path: Path, name: str, codec: str, form: str, tolerance: float) -> None:
    for rgb in ((0.8, 0.2, 0.1), (0.05, 0.6, 0.9), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)):
        path = write_clip(tmp_path / name, [plain(rgb)] * 3, codec=codec, form=form)  # x265 needs three
        for frame in open_clip(str(path)).frames():
            assert (frame.picture.rgb - plain(rgb)).abs().max() < tolerance


def test_a_small_clip_without_tags_is_bt601_and_a_large_one_bt709(tmp_path: Path) -> None:
    red = (0.8, 0.2, 0.1)
    for matrix, size in ((5, (64, 64)), (1, (720, 64))):
        with av.open(str(tmp_path / "a.mkv"), "w") as out:
            stream = out.add_stream("ffv1", rate=10)
            stream.height, stream.width, stream.pix_fmt = *size, "yuv444p"
            values = (plain(red, size)[0] * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
            frame = av.VideoFrame.from_ndarray(values, format="rgb24")
            frame = frame.reformat(format="yuv444p", dst_colorspace=matrix, dst_color_range=1)
            frame.colorspace = frame.color_range = 0  # neither is told
            frame.colorspace = 2
            out.mux(stream.encode(frame))
            out.mux(stream.encode())
        (found,) = open_clip(str(tmp_path / "a.mkv")).frames()
        assert (found.picture.rgb - plain(red, size)).abs().max() < 0.02


def test_transparency_is_read(tmp_path: Path) -> None:
    clear = torch.cat([moved(0), torch.zeros(1, 1, 64, 96)], dim=1)
    clear[:, 3, :, 48:] = 1
    for name, codec, form in (("a.mov", "prores_ks", "yuva444p10le"), ("a.mkv", "ffv1", "bgra")):
        (frame,) = open_clip(str(write_clip(tmp_path / name, [clear], codec=codec, form=form))).frames()
        assert frame.picture.alpha is not None
        assert (frame.picture.alpha - clear[:, 3:]).abs().max() < 0.02
    for i in range(2):
        images.save(clear[:, :3], tmp_path / f"f{i}.png", clear[:, 3:])
    for frame in open_clip(str(tmp_path / "f*.png")).frames():
        assert frame.picture.alpha is not None and torch.equal(frame.picture.alpha, clear[:, 3:])


def test_a_turned_clip_comes_upright(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", [moved(0)] * 2)
    data = path.read_bytes()
    at = data.index(b"tkhd") + 44  # of the matrix in a track's header (ISO 14496-12)
    turned = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 64 << 16, 0, 1 << 30)  # clockwise by a quarter
    path.write_bytes(data[:at] + turned + data[at + 36 :])
    for frame in open_clip(str(path)).frames():
        assert (frame.picture.rgb - moved(0).rot90(-1, (2, 3))).abs().mean() < 0.02


def test_animated_pictures_are_clips(tmp_path: Path) -> None:
    pictures = [images.encode(moved(4 * i)) for i in range(3)]
    for name in ("a.gif", "a.webp"):
        more: dict[str, Any] = {"quality": 95} if name == "a.webp" else {}
        pictures[0].save(
            tmp_path / name, save_all=True, append_images=pictures[1:], duration=[40, 200, 100], loop=0, **more
        )
        found = list(open_clip(str(tmp_path / name)).frames())
        assert [float(x.time) for x in found] == pytest.approx([0, 0.04, 0.24])
        for i, frame in enumerate(found):
            assert (frame.picture.rgb - moved(4 * i)).abs().mean() < 0.05


def test_pictures_are_taken_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for i in (8, 9, 10):
        images.save(moved(i), tmp_path / f"f{i}.png")
    clip = open_clip(str(tmp_path), Fraction(50))
    found = list(clip.frames())
    assert [float(x.time) for x in found] == pytest.approx([0, 0.02, 0.04])
    for i, frame in enumerate(found):
        assert (frame.picture.rgb - moved(8 + i)).abs().max() < 0.005


def test_a_clip_that_breaks_off_gives_its_whole_frames(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "nst")
    whole = write_clip(tmp_path / "clip.mp4", [moved(3 * i) for i in range(12)], movflags="faststart")
    data = whole.read_bytes()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(data[: len(data) - (len(data) - data.index(b"mdat")) // 5])
    found = list(open_clip(str(cut)).frames())
    assert 0 < len(found) < 12
    for frame, same in zip(found, open_clip(str(whole)).frames(), strict=False):
        assert torch.equal(frame.picture.rgb, same.picture.rgb)
    assert f"cut.mp4 breaks off after {len(found)} of 12 frames" in caplog.text


def test_what_is_no_clip_is_told_in_one_line(tmp_path: Path) -> None:
    def told(source: str | Path, match: str, **limits: int) -> None:
        with pytest.raises(InputError, match=match) as error:
            list(open_clip(str(source), **limits).frames())  # type: ignore[arg-type]  # the limits are integers
        assert "\n" not in str(error.value)

    text = tmp_path / "text.mp4"
    text.write_text("no video at all")
    told(text, r"Expected --data\.content to be a clip, but .*text\.mp4 cannot be read as one .*; give a video")
    told(tmp_path / "none.mp4", r"none\.mp4 cannot be read as one \(No such file or directory\)")
    empty = tmp_path / "empty.mp4"
    empty.touch()
    told(empty, r"empty\.mp4 cannot be read")
    playlist = tmp_path / "list.mp4"
    playlist.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nclip.ts\n#EXT-X-ENDLIST\n")
    told(playlist, r"list\.mp4 cannot be read as one")
    with av.open(str(tmp_path / "song.m4a"), "w", format="mp4") as out:
        stream = out.add_stream("aac", rate=8000, layout="mono")
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        silence.sample_rate, silence.pts, silence.time_base = 8000, 0, Fraction(1, 8000)
        out.mux(stream.encode(silence))
        out.mux(stream.encode())
    told(tmp_path / "song.m4a", r"song\.m4a has sound alone; give a video")
    (tmp_path / "folder").mkdir()
    told(tmp_path / "folder", r"folder matches no file")
    told(tmp_path / "x*.png", r"x\*\.png matches no file; change the folder or pattern")
    for name, size in (("f1.png", 64), ("f3.png", 64), ("g1.png", 64), ("g2.png", 62)):
        Image.new("RGB", (size, 64)).save(tmp_path / name)
    told(tmp_path / "f*.png", r"without gaps, but in .*f\*\.png 3 follows 1; rename")
    told(tmp_path / "g*.png", r"one size, 64×64, but frame 1 \(g2\.png\) is 62×64; scale it")
    clip = write_clip(tmp_path / "clip.mp4", [moved(0)] * 2)
    told(clip, r"at most 100 pixels, but .*clip\.mp4 has 96×64; scale it down", max_pixels=100)
    data = clip.read_bytes()
    (tmp_path / "codec.mp4").write_bytes(data.replace(b"avc1", b"zzzz").replace(b"avcC", b"zzzC"))
    told(tmp_path / "codec.mp4", r"of a codec that this FFmpeg decodes, but .*codec\.mp4 is not; convert it")
    at = data.index(b"mdat") + 4
    end = data.index(b"moov") - 4
    (tmp_path / "holes.mp4").write_bytes(data[:at] + bytes(end - at) + data[end:])  # no frame is left
    told(tmp_path / "holes.mp4", r"to hold frames, but .*holes\.mp4 has no whole one")
    with pytest.raises(InputError, match=r"no --video\.rate with .*clip\.mp4, whose frames have times"):
        open_clip(str(clip), Fraction(10))


def test_a_video_without_frames(tmp_path: Path) -> None:
    path = tmp_path / "none.mkv"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=10)
        stream.height = stream.width = 64
        stream.pix_fmt = "bgr0"
        out.start_encoding()
    with pytest.raises(InputError, match=r"to be a clip, but .*none\.mkv cannot be read as one"):
        list(Video(str(path)).frames())
