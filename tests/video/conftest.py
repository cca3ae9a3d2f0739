"""Clips that the tests make: moved noise with a tone, in any container."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

av = pytest.importorskip("av", reason="needs nst[video]")
pytest.importorskip("cv2", reason="needs nst[video]")


def moved(x: int, y: int = 0, height: int = 64, width: int = 96) -> Tensor:
    """A window of smooth noise, (1, 3, H, W): what it shows lies x pixels further left, and y further up, than at 0."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(1, 3, 24, 32, generator=generator)
    wide = torch.nn.functional.interpolate(noise, (288, 384), mode="bicubic").clamp(0, 1)
    return wide[:, :, 64 + y : 64 + y + height, 96 + x : 96 + x + width]


def write_clip(
    path: Path,
    frames: Sequence[Tensor],
    times: Sequence[Fraction] | None = None,
    tone: bool = False,
    codec: str = "libx264",
    form: str = "yuv420p",
    **options: Any,
) -> Path:
    """Writes a clip with plain PyAV; its colours are BT.709, and its tone, if any, is AAC of 440 Hz."""
    with av.open(str(path), "w", options=options) as out:
        stream = out.add_stream(codec, rate=10, options={"crf": "12"} if "x26" in codec else {})
        stream.height, stream.width = frames[0].shape[2:]
        stream.pix_fmt = form
        if not av.VideoFormat(form).is_rgb:
            stream.codec_context.color_range, stream.codec_context.colorspace = 1, 1
        sound = out.add_stream("aac", rate=8000, layout="mono") if tone else None
        for i, rgb in enumerate(frames):
            kind = "rgba" if rgb.shape[1] == 4 else "rgb24"
            values = (rgb[0] * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
            frame = av.VideoFrame.from_ndarray(values, format=kind)
            if not frame.format.is_rgb or not av.VideoFormat(form).is_rgb:
                frame = frame.reformat(format=form, dst_colorspace=1, dst_color_range=1)
            frame.time_base = Fraction(1, 1000)
            frame.pts = round(1000 * (times[i] if times else Fraction(i, 10)))
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
        if sound is not None:
            count = round(8000 * len(frames) / 10)
            wave = 0.4 * np.sin(2 * np.pi * 440 * np.arange(count) / 8000)
            for begin in range(0, count - 1023, 1024):
                heard = av.AudioFrame.from_ndarray(
                    wave[None, begin : begin + 1024].astype(np.float32), format="fltp", layout="mono"
                )
                heard.sample_rate, heard.pts, heard.time_base = 8000, begin, Fraction(1, 8000)
                out.mux(sound.encode(heard))
            out.mux(sound.encode())
    return path


def packets(path: Path) -> list[tuple[float, bytes]]:
    """The packets of a clip's sound, with their times."""
    with av.open(str(path)) as clip:
        found = [x for x in clip.demux(clip.streams.audio) if x.dts is not None]
        return [(float(x.pts * x.time_base), bytes(x)) for x in found]
