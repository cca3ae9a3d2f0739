"""Clips from files to frames: videos, animated pictures, and folders or patterns of frames.

A clip may come from anywhere. FFmpeg's demuxers that open other files, such as playlists, are not among CONTAINERS;
a frame is looked at only after its size has been checked; and what breaks off yields the whole frames before the break.
"""

from __future__ import annotations

import glob
import logging
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from av.video.reformatter import ColorRange, Colorspace
from PIL import Image
from torch import Tensor

from nst.errors import InputError, one_line, shown
from nst.pictures import decoding, images
from nst.pictures.decoding import MAX_PIXELS
from nst.pictures.images import Picture

log = logging.getLogger(__name__)

KEY = "data.content"

CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,ogg,asf,mxf,nut,ivf,h264,hevc,obu,dv,"
    "yuv4mpegpipe,apng"
)
"""FFmpeg's demuxers of files that hold all of a clip."""

ANIMATIONS = {".gif": "GIF", ".webp": "WEBP"}
"""Animated pictures: their suffixes, and Pillow's names of their formats, the only ones that are opened."""

UNSPECIFIED, HIGH_DEFINITION = 2, 720
"""FFmpeg's word for an unnamed colour matrix, and the height from which it is BT.709 and not BT.601 by custom."""

HDR = {16: "PQ", 18: "HLG"}
"""Transfer functions of high dynamic range, by their number in the standard (ITU-T H.273)."""


@dataclass(frozen=True)
class Frame:
    """A frame of a clip.

    Attributes:
        number: Its place in the clip, from 0.
        time: When it is shown, in seconds.
        picture: What it shows.
    """

    number: int
    time: Fraction
    picture: Picture


class Clip(ABC):
    """The frames of a clip, one after another.

    Args:
        source: The file, the folder or the pattern.
        max_pixels: Refuse larger frames.

    Attributes:
        rate: Frames a second, on the average.
        length: How many frames there are, as far as is known before they are read; 0 for unknown.
        files: The files that the frames are in.
    """

    rate = Fraction(25)
    length = 0

    def __init__(self, source: str, max_pixels: int = MAX_PIXELS) -> None:
        self.source, self.max_pixels, self.files = source, max_pixels, [Path(source)]

    def frames(self) -> Iterator[Frame]:
        """Yields the frames.

        Raises:
            InputError: If there is no frame, or the frames are of different sizes.
        """
        size: tuple[int, int] | None = None
        for frame in self._frames():
            found = frame.picture.width, frame.picture.height
            size = size or found
            if found != size:
                raise InputError(
                    f"Expected --{KEY} to have frames of one size, {size[0]}×{size[1]}, but frame {frame.number} "
                    f"({frame.picture.name}) is {found[0]}×{found[1]}; scale it to the others' size"
                )
            yield frame
        if size is None:
            raise InputError(
                f"Expected --{KEY} to hold frames, but {shown(self.source)} has no whole one; give another file"
            )

    @abstractmethod
    def _frames(self) -> Iterator[Frame]:
        """Yields the frames, whatever their sizes."""

    def broken_off(self, number: int, reason: str = "") -> None:
        """Says that a file ends before its frames do."""
        of = f" of {self.length}" if self.length > number else ""
        log.info(
            "%s breaks off after %d%s frames%s: these are painted",
            *(shown(self.source), number, of, f" ({reason})" if reason else ""),
        )


def open_clip(source: str, rate: Fraction | None = None, max_pixels: int = MAX_PIXELS) -> Clip:
    """Opens a clip.

    Args:
        source: A video, an animated GIF or WebP, a folder of frames, or a pattern with `*` of their names.
        rate: Frames a second of a folder or a pattern, which have no times; 25 by default.
        max_pixels: Refuse larger frames, which may be decompression bombs.

    Raises:
        InputError: If there is no clip that can be read.
    """
    path = Path(source)
    if path.is_dir() or (glob.has_magic(source) and not path.exists()):
        return Pictures(source, rate or Fraction(25), max_pixels)
    if rate is not None:
        raise InputError(f"Expected no --video.rate with {shown(source)}, whose frames have times; leave it out")
    return (Animation if path.suffix.lower() in ANIMATIONS else Video)(source, max_pixels)


class Pictures(Clip):
    """A folder of frames, or the files that a pattern matches, in the order of their numbers."""

    def __init__(self, source: str, rate: Fraction, max_pixels: int) -> None:
        super().__init__(source, max_pixels)
        self.rate = rate
        found = Path(source).iterdir() if Path(source).is_dir() else map(Path, glob.glob(source))
        files = [x for x in found if x.is_file() and not x.name.startswith(".")]
        if not files:
            raise InputError(
                f"Expected --{KEY} to match frames, but {shown(source)} matches no file; change the folder or pattern"
            )
        numbers = {x: [int(number) for number in re.findall(r"\d+", x.stem)] for x in files}
        self.files = sorted(files, key=lambda x: (numbers[x][-1:], x.name))
        if all(numbers.values()):
            self._check_gaps([numbers[x][-1] for x in self.files])
        self.length = len(self.files)

    def _check_gaps(self, numbers: list[int]) -> None:
        for before, after in pairwise(numbers):
            if after != before + 1:
                told = f"{after} comes twice" if after == before else f"{after} follows {before}"
                raise InputError(
                    f"Expected --{KEY} to number its frames without gaps, but in {shown(self.source)} {told}; "
                    "rename the files or narrow the pattern"
                )

    def _frames(self) -> Iterator[Frame]:
        for number, path in enumerate(self.files):
            yield Frame(number, number / self.rate, images.load(path, KEY, self.max_pixels))


class Animation(Clip):
    """An animated GIF or WebP, or one frame in such a file."""

    def __init__(self, source: str, max_pixels: int) -> None:
        super().__init__(source, max_pixels)
        decoding.check(Path(source), KEY, max_pixels)
        with self._refused(), Image.open(source, formats=[*ANIMATIONS.values()]) as image:
            self.length = getattr(image, "n_frames", 1)

    def _frames(self) -> Iterator[Frame]:
        time = Fraction(0)
        with open(self.source, "rb") as file:
            with self._refused():
                image = Image.open(file, formats=[*ANIMATIONS.values()])
            for number in range(self.length):
                try:
                    image.seek(number)
                    picture = images.decode(image.copy(), f"frame {number}")
                except Exception as error:  # decoders raise nearly all of Python's errors for damaged files
                    if number:
                        self.broken_off(number, one_line(error))
                    return
                yield Frame(number, time, picture)
                time += Fraction(round(image.info.get("duration", 0)) or 100, 1000)  # browsers take 0 for a tenth

    @contextmanager
    def _refused(self) -> Iterator[None]:
        with decoding.refused(Path(self.source), KEY, self.max_pixels):
            yield


class Video(Clip):
    """A video in one of CONTAINERS."""

    def __init__(self, source: str, max_pixels: int = MAX_PIXELS) -> None:
        super().__init__(source, max_pixels)
        self._reason = ""  # why the file breaks off
        with self.opened() as container:
            stream = self._stream(container)
            self.rate = Fraction(stream.average_rate or stream.guessed_rate or self.rate)
            seconds = stream.duration * stream.time_base if stream.duration else 0
            self.length = stream.frames or round(seconds * self.rate)

    @contextmanager
    def opened(self) -> Iterator[Any]:
        """Opens the container; raises an InputError where it cannot be read."""
        try:
            container = av.open(self.source, options={"format_whitelist": CONTAINERS, "protocol_whitelist": "file"})
        except (av.error.FFmpegError, OSError, ValueError) as error:
            reason = one_line(getattr(error, "strerror", None) or error)
            raise InputError(
                f"Expected --{KEY} to be a clip, but {shown(self.source)} cannot be read as one ({reason}); give a "
                "video, a GIF, a folder of frames or a pattern with *"
            ) from None
        with container:
            yield container

    def _stream(self, container: Any) -> Any:
        """Returns the stream of frames; raises an InputError where there is none that can be decoded."""
        # a picture of a song's cover is a stream of its own
        streams = [x for x in container.streams.video if "attached_pic" not in str(x.disposition)]
        if not streams:
            other = "sound alone" if container.streams.audio else "no frames"
            raise InputError(f"Expected --{KEY} to hold frames, but {shown(self.source)} has {other}; give a video")
        stream = streams[0]
        if stream.codec_context is None:
            raise InputError(
                f"Expected --{KEY} to be of a codec that this FFmpeg decodes, but {shown(self.source)} is not; convert "
                "it to H.264"
            )
        self._check_size(stream.codec_context.width, stream.codec_context.height)
        stream.thread_type = "AUTO"
        return stream

    def _check_size(self, width: int, height: int) -> None:
        if width * height > self.max_pixels:
            raise InputError(
                f"Expected --{KEY} to have frames of at most {self.max_pixels} pixels, but {shown(self.source)} has "
                f"{width}×{height}; scale it down or raise --data.max_pixels"
            )

    def _frames(self) -> Iterator[Frame]:
        number, self._reason = 0, ""
        with self.opened() as container:
            stream = self._stream(container)
            aspect = Fraction(stream.sample_aspect_ratio or 1)
            longest = last = Fraction(0)
            for frame in self._decoded(container, stream):
                if frame.is_corrupt:  # FFmpeg fills what is missing with what it has
                    self._reason = "a damaged frame"
                    break
                self._check_size(frame.width, frame.height)
                if number == 0 and frame.color_trc in HDR:
                    told = shown(self.source), HDR[frame.color_trc]
                    log.info("%s is in %s: its colours are read as they are, and look flat", *told)
                time = number / self.rate if frame.pts is None else frame.pts * Fraction(stream.time_base)
                if self._reason and number > 1 and time - last > 1.5 * longest:
                    break  # one in between is lost
                longest, last = max(longest, time - last) if number else longest, time
                yield Frame(number, time, _square(_picture(frame, f"frame {number}"), aspect, frame.rotation))
                number += 1
            if number and (self._reason or number < stream.frames):
                self.broken_off(number, self._reason)

    def _decoded(self, container: Any, stream: Any) -> Iterator[Any]:
        """Yields frames up to where the file breaks off, with those that the decoder has not given away by then."""
        try:
            for packet in container.demux(stream):
                if packet.is_corrupt:
                    self._reason = "a damaged packet"
                    break
                yield from packet.decode()
            else:
                return
        except av.error.FFmpegError as error:
            self._reason = one_line(error.strerror or error)
        with suppress(av.error.FFmpegError):
            yield from stream.codec_context.decode(None)


def _picture(frame: Any, name: str) -> Picture:
    """Converts a decoded frame: its colour matrix and range by its tags, or by custom where it has none."""
    deep = max(part.bits for part in frame.format.components) > 8
    alpha = any(part.is_alpha for part in frame.format.components)
    matrix = frame.colorspace
    if matrix == UNSPECIFIED and not frame.format.is_rgb:
        matrix = Colorspace.ITU709 if frame.height >= HIGH_DEFINITION else Colorspace.ITU601
    form = f"rgb{'a' if alpha else ''}{'64le' if deep and alpha else '48le' if deep else '' if alpha else '24'}"
    span = ColorRange.JPEG if frame.color_range == ColorRange.JPEG else ColorRange.MPEG
    kwargs = {} if frame.format.is_rgb else {"src_colorspace": matrix, "src_color_range": span}
    values = frame.reformat(format=form, **kwargs).to_ndarray()
    planes = torch.from_numpy(values.astype(np.float32) / (65535 if deep else 255)).permute(2, 0, 1)[None].contiguous()
    opacity = planes[:, 3:] if alpha and bool((planes[:, 3] < 1).any()) else None
    return Picture(planes[:, :3].contiguous(), opacity, name)


def _square(picture: Picture, aspect: Fraction, rotation: int) -> Picture:
    """Brings a frame to square pixels and upright: `rotation` is in degrees, counter-clockwise."""
    if aspect != 1 and aspect > 0:
        picture = picture.resized(picture.height, max(1, round(picture.width * aspect)))
    quarters = round(rotation / 90) % 4
    if not quarters:
        return picture

    def turned(x: Tensor | None) -> Tensor | None:
        return None if x is None else torch.rot90(x, quarters, (2, 3)).contiguous()

    rgb = turned(picture.rgb)
    assert rgb is not None
    return Picture(rgb, turned(picture.alpha), picture.name)
