"""Clips from frames to files: containers, codecs, and sound that is copied packet by packet."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace
from PIL import Image

from nst.errors import InputError, nearest, shown
from nst.pictures import files
from nst.pictures.images import Picture
from nst.video.clips import Clip, Video
from nst.video.painter import Painted


@dataclass(frozen=True)
class Container:
    """A kind of file that holds a clip.

    Attributes:
        format: FFmpeg's name of the container; empty for an animated picture, which Pillow writes.
        codec: The usual codec, and its pixel format.
        clear: Codec and pixel format of a clip with transparency; None if the container has none.
        quality: The codec's usual quality: `crf`, lower for better; for an animated WebP 0 to 100, higher for better.
    """

    format: str
    codec: tuple[str, str] = ("libx264", "yuv420p")
    clear: tuple[str, str] | None = None
    quality: int = 18


CONTAINERS = {
    ".mp4": Container("mp4"),
    ".mov": Container("mov", clear=("prores_ks", "yuva444p10le")),
    ".mkv": Container("matroska", clear=("ffv1", "bgra")),
    ".webm": Container("webm", ("libvpx-vp9", "yuv420p"), ("libvpx-vp9", "yuva420p"), 24),
    ".gif": Container("", ("gif", "pal8"), ("gif", "pal8")),
    ".webp": Container("", ("webp", "rgba"), ("webp", "rgba"), 90),
}
"""The containers by suffix; a folder takes the frames as PNG files."""

BT709 = 1
"""The number of BT.709's primaries and transfer function (ITU-T H.273), which players take sRGB's for."""

TICKS = Fraction(1, 90000)
"""The unit of the frames' times, in which all usual rates are whole numbers."""


@dataclass(frozen=True)
class Encoding:
    """How a clip is written.

    Attributes:
        output: The file, whose suffix is one of CONTAINERS; or a folder, which has no suffix.
        codec: FFmpeg's encoder, such as `libx265`; by default the container's usual one.
        quality: The encoder's `crf`; by default the container's usual one.
        pixel_format: FFmpeg's pixel format, such as `yuv444p`; by default the codec's usual one.

    Raises:
        InputError: If the file cannot be written, or FFmpeg has no such encoder or format.
    """

    output: Path
    codec: str | None = None
    quality: int | None = None
    pixel_format: str | None = None

    def __post_init__(self) -> None:
        suffix = self.output.suffix.lower()
        if not suffix:
            if self.output.exists() and not self.output.is_dir():
                raise InputError(
                    f"Expected --output to be a folder or to end in .mp4, but {shown(self.output)} is a file"
                )
            return
        if suffix not in CONTAINERS:
            *most, last = CONTAINERS
            raise InputError(
                f"Expected --output to end in {', '.join(most)} or {last}, or to be a folder for frames, but got "
                f"{shown(self.output)}"
            )
        files.check_place(self.output)
        given = {"codec": self.codec, "quality": self.quality, "pixel_format": self.pixel_format}
        if not self.container.format:
            for name in ("codec", "pixel_format", *(["quality"] if suffix == ".gif" else [])):
                if given[name] is not None:
                    raise InputError(f"Expected no --video.{name} for a {suffix} file, which has one; leave it out")
            return
        try:
            found = av.codec.Codec(self.codec or self.container.codec[0], "w")
        except (av.codec.codec.UnknownCodecError, ValueError):
            raise InputError(
                f"Expected --video.codec to be an encoder of this FFmpeg, but it has no "
                f"{self.codec or self.container.codec[0]}{nearest(str(self.codec), av.codecs_available)}"
            ) from None
        formats = _formats(found.name)
        if found.type != "video":
            raise InputError(f"Expected --video.codec to encode frames, but {self.codec} encodes {found.type}")
        if self.pixel_format is not None and self.pixel_format not in formats:
            raise InputError(
                f"Expected --video.pixel_format to be one of {', '.join(formats)} for {found.name}, but got "
                f"{self.pixel_format}"
            )

    @property
    def container(self) -> Container:
        return CONTAINERS[self.output.suffix.lower()]

    @property
    def is_folder(self) -> bool:
        """Whether the frames themselves are what is written."""
        return not self.output.suffix

    def checked(self, picture: Picture) -> Picture:
        """Returns a frame; raises an InputError if it has transparency and the container cannot hold any."""
        if picture.alpha is not None and not self.is_folder and self.container.clear is None:
            can = [suffix for suffix, x in CONTAINERS.items() if x.clear]
            raise InputError(
                f"Expected --output to hold the clip's transparency, but {self.output.suffix} has none; end it in "
                f"{', '.join(can)}, give a folder, or give --video.alpha none"
            )
        return picture

    def holds_sound(self, source: Clip) -> bool:
        """Returns whether a clip has sound to copy; raises an InputError unless the container can hold it."""
        if not isinstance(source, Video):
            return False
        with source.opened() as container:
            codecs = {x.codec_context.name for x in container.streams.audio if x.codec_context is not None}
        if not codecs:
            return False
        known: set[str] = set()
        if not self.is_folder and self.container.format:
            with av.open(io.BytesIO(), "w", format=self.container.format) as empty:
                known = set(empty.supported_codecs)
        lacks = sorted(name for name in codecs if av.codec.Codec(name, "r").canonical_name not in known)
        if lacks:
            where = "a folder of frames" if self.is_folder else self.output.suffix
            raise InputError(
                f"Expected --output to hold the clip's sound ({', '.join(lacks)}), but {where} cannot; end it in .mkv, "
                "or give --video.audio none"
            )
        return True

    def write(
        self,
        frames: Sequence[Painted],
        rate: Fraction,
        sound: Video | None = None,
        whole: bool = True,
    ) -> None:
        """Writes a clip; a file that is there is replaced when the new one is whole.

        Args:
            frames: The frames, of one size, in order.
            rate: Frames a second, on the average.
            sound: The clip whose sound is copied; None for none.
            whole: Whether all of the sound is copied; else what is heard during the frames.

        Raises:
            RunError: If the file cannot be written.
        """

        def write(file: IO[bytes]) -> None:
            if not self.container.format:
                self._animate(file, frames, rate)
                return
            options = {"movflags": "faststart"} if self.container.format in ("mp4", "mov") else {}
            # by its name, as the index of an MP4 file is brought to its front by reading it again
            with av.open(file.name, "w", format=self.container.format, options=options) as out:
                self._encode(out, frames, rate, sound, whole)

        files.write_atomically(self.output, write, "Make room, or choose another --output; the frames are kept")

    def _encode(self, out: Any, frames: Sequence[Painted], rate: Fraction, sound: Video | None, whole: bool) -> None:
        clear, size = False, (0, 0)
        for frame in frames:
            with Image.open(frame.path) as image:
                clear = clear or image.has_transparency_data
                size = image.size
        codec, usual = (self.container.clear if clear else None) or self.container.codec
        codec = av.codec.Codec(self.codec or codec, "w").name  # an encoder may be named by its format, as hevc
        form = self.pixel_format or (usual if self.codec is None else _formats(codec)[0])
        kind = av.VideoFormat(form)
        # where chroma has half the columns or rows, an odd one is left out
        width = size[0] - size[0] % 2 if kind.chroma_width(2) == 1 else size[0]
        height = size[1] - size[1] % 2 if kind.chroma_height(2) == 1 else size[1]
        options = {"crf": str(self.container.quality if self.quality is None else self.quality)}
        if codec == "libvpx-vp9":
            options |= {"row-mt": "1", "cpu-used": "2", "auto-alt-ref": "0" if clear else "1"}
        if codec == "libx265" and len(frames) < 3:
            # with B-frames it times the first packet by the third frame, and without one by memory it never set
            options["x265-params"] = "bframes=0"
        stream = out.add_stream(codec, rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, form
        context = stream.codec_context
        context.time_base = TICKS
        if not kind.is_rgb:
            context.color_range, context.colorspace = ColorRange.MPEG, Colorspace.ITU709
            context.color_primaries = context.color_trc = BT709
        if codec == "libvpx-vp9":
            stream.bit_rate = 0  # else `crf` is only the worst quality
        begin, end = frames[0].time, self._end(frames, rate)
        with _packets(sound, out, begin, None if whole else end) as packets:
            ahead = next(packets, None)
            for frame in frames:
                while ahead is not None and ahead.pts * ahead.time_base <= frame.time - begin:
                    out.mux(ahead)
                    ahead = next(packets, None)
                out.mux(stream.encode(self._frame(frame, begin, (width, height), form, clear)))
            out.mux(stream.encode())
            while ahead is not None:
                out.mux(ahead)
                ahead = next(packets, None)

    @staticmethod
    def _frame(frame: Painted, begin: Fraction, size: tuple[int, int], form: str, clear: bool) -> Any:
        with Image.open(frame.path) as image:
            values = np.asarray(image.convert("RGBA" if clear else "RGB"))[: size[1], : size[0]]
        shown = av.VideoFrame.from_ndarray(np.ascontiguousarray(values), format="rgba" if clear else "rgb24")
        if not av.VideoFormat(form).is_rgb:
            shown = shown.reformat(format=form, dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG)
        shown.time_base, shown.pts = TICKS, round((frame.time - begin) / TICKS)
        return shown

    @staticmethod
    def _end(frames: Sequence[Painted], rate: Fraction) -> Fraction:
        return frames[-1].time + 1 / rate

    def _animate(self, file: IO[bytes], frames: Sequence[Painted], rate: Fraction) -> None:
        ends = [*(x.time for x in frames[1:]), self._end(frames, rate)]
        durations = [max(10, round(1000 * (end - x.time))) for x, end in zip(frames, ends, strict=True)]
        pictures = (_read(x.path) for x in frames)  # for a GIF when their turn comes, for a WebP at once, by Pillow
        first = next(pictures)
        shape: dict[str, Any] = {"save_all": True, "append_images": pictures, "duration": durations, "loop": 0}
        if self.output.suffix.lower() == ".webp":
            quality = self.container.quality if self.quality is None else self.quality
            # whole frames, as what is left of a clear one may be opaque, and the file is then marked as opaque
            whole = {"kmax": 1} if first.has_transparency_data else {}
            first.save(file, "WEBP", **shape, **whole, quality=quality, method=4)
        else:
            first.save(file, "GIF", **shape)


def _read(path: Path) -> Image.Image:
    """Reads a frame and closes its file, of which a system opens a thousand or so at once."""
    with Image.open(path) as image:
        image.load()
    return image


def _formats(codec: str) -> list[str]:
    """Returns the pixel formats that an encoder takes, its usual one first."""
    return [x.name for x in av.codec.Codec(codec, "w").video_formats or []]


@contextmanager
def _packets(sound: Video | None, out: Any, begin: Fraction, end: Fraction | None) -> Iterator[Iterator[Any]]:
    """Yields the packets of a clip's sound, for streams that it makes in `out`, moved so that `begin` is 0.

    With an `end`, they are the packets of which at least a half is heard between the two times.
    """
    if sound is None:
        yield iter(())
        return
    with sound.opened() as source:
        heard = [x for x in source.streams.audio if x.codec_context is not None]
        copies = {x.index: out.add_stream_from_template(x) for x in heard}

        def packets() -> Iterator[Any]:
            for packet in _readable(source.demux(heard)):
                if packet.dts is None or packet.pts is None:
                    continue
                middle = (packet.pts + Fraction(packet.duration or 0, 2)) * packet.time_base
                if end is not None and not begin <= middle < end:
                    continue
                shift = round(begin / packet.time_base)
                copy = copies[packet.stream.index]
                packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                packet.stream = copy
                yield packet

        yield packets()


def _readable(packets: Iterable[Any]) -> Iterator[Any]:
    """Yields packets up to where the file breaks off."""
    try:
        yield from packets
    except av.error.FFmpegError:
        return
