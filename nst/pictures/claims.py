"""The picture sizes that a file's headers claim, read before anything is decoded or memory for it is allocated.

Pillow reports the size of most files without decoding them. This module reads the claims that Pillow trusts, skips or
finds too late: the canvas of a WebP file, the tiles of a TIFF, and the streams inside JPEG 2000, ICNS and AVIF files,
which may be far larger than the picture size in the container's header.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterator
from typing import IO

Size = tuple[int, int]

CHUNK = 1 << 20
"""Bytes that a search reads at a time."""

MOST_SAMPLES = 6
"""The most samples per pixel that Pillow decodes in a TIFF."""

SIDES = (256, 257, 277, 322, 323)
"""Tags of a TIFF's width and height, samples a pixel, and a tile's width and height."""

J2K_HEADER = b"\xff\x4f\xff\x51"
"""Start of a JPEG 2000 stream: its first two markers, the second of which holds the picture's size."""

CONTAINERS = {b"meta": 4, b"iprp": 0, b"ipco": 0, b"moov": 0, b"trak": 0, b"mdia": 0, b"minf": 0, b"stbl": 0}
"""Boxes of ISO media files that contain boxes, and the bytes between their header and the first inner box."""


def claims(file: IO[bytes]) -> Iterator[Size]:
    """Yields the widths and heights that a file names in places that Pillow reads too late or never.

    Raises:
        ValueError, struct.error: If the file contradicts itself; a damaged file may raise other errors too.
    """
    file.seek(0)
    head = file.read(32)
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        yield from _webp(head)
    elif head[:2] in (b"II", b"MM") and (42 in head[2:4] or 43 in head[2:4]):
        yield from _tiff(file, head)
    elif head[4:8] == b"ftyp":
        yield from _avif(file)
    elif head[:4] == b"icns" or head[4:8] == b"jP  " or head[:4] == J2K_HEADER:
        yield from _jpeg2000(file)
    file.seek(0)


def _webp(head: bytes) -> Iterator[Size]:
    kind = head[12:16]
    if kind == b"VP8X":
        yield int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
    elif kind == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        yield (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    else:
        yield int.from_bytes(head[26:28], "little") & 0x3FFF, int.from_bytes(head[28:30], "little") & 0x3FFF


def _tiff(file: IO[bytes], head: bytes) -> Iterator[Size]:
    """Yields the largest picture and tile size in a TIFF's first directory; of a repeated tag, all values count."""
    order, big = "<" if head[:2] == b"II" else ">", 43 in head[2:4]
    length, inline = (20, 8) if big else (12, 4)
    file.seek(struct.unpack_from(f"{order}Q", head, 8)[0] if big else struct.unpack_from(f"{order}I", head, 4)[0])
    (count,) = struct.unpack(f"{order}{'Q' if big else 'H'}", file.read(8 if big else 2))
    directory = file.read(min(count, 1 << 16) * length)
    kinds = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q"}
    largest: dict[int, int] = {}
    for at in range(0, len(directory) - length + 1, length):
        tag, kind, many = struct.unpack_from(f"{order}HH{'Q' if big else 'I'}", directory, at)
        if tag in SIDES:
            if kind not in kinds or struct.calcsize(f"={kinds[kind]}") > inline or many != 1:
                raise ValueError(f"tag {tag} is not one whole number")
            (value,) = struct.unpack_from(f"{order}{kinds[kind]}", directory, at + length - inline)
            largest[tag] = max(largest.get(tag, 0), value)
    if largest.get(277, 1) > MOST_SAMPLES:
        raise ValueError(f"{largest[277]} samples a pixel")
    yield largest.get(256, 0), largest.get(257, 0)
    yield largest.get(322, 0), largest.get(323, 0)  # a tile's buffer is whole even where the picture is smaller


def _jpeg2000(file: IO[bytes]) -> Iterator[Size]:
    """Yields the sizes of all JPEG 2000 streams anywhere in a file."""
    for header in _found(file, J2K_HEADER, 42):
        right, bottom, left, top, across, down, x, y = struct.unpack_from(">8I", header, 8)
        width, height = max(right - left, 0), max(bottom - top, 0)
        yield width, height
        # the decoder keeps about ten kilobytes for each tile, whatever the tile's size
        tiles = -((x - right) // max(across, 1)) * -((y - bottom) // max(down, 1))
        if tiles > 256 + width * height // 1024:
            raise ValueError(f"{tiles} tiles for {width}×{height} pixels")


def _found(file: IO[bytes], pattern: bytes, length: int) -> Iterator[bytes]:
    """Yields every run of `length` bytes in a file that starts with a pattern."""
    kept = b""
    file.seek(0)
    while chunk := file.read(CHUNK):
        text = kept + chunk
        at = text.find(pattern)
        while 0 <= at <= len(text) - length:
            yield text[at : at + length]
            at = text.find(pattern, at + 1)
        kept = text[-length + 1 :]


def _avif(file: IO[bytes]) -> Iterator[Size]:
    """Yields the picture sizes in an AVIF file's boxes and in its AV1 streams, which are decoded before scaling."""
    length = file.seek(0, os.SEEK_END)
    streams: list[list[Size]] = []  # each a list of (offset, length)
    held = list(_boxes(file, 0, length))
    stored = next((start for kind, start, _ in held if kind == b"idat"), 0)
    for kind, start, end in held:
        file.seek(start)
        if kind == b"ispe":
            yield struct.unpack_from(">II", file.read(12), 4)
        elif kind == b"iloc":
            streams += _items(file.read(end - start), stored)
        elif kind in (b"stco", b"co64"):  # an image sequence's first frame starts its first chunk
            number = file.read(16)
            if int.from_bytes(number[4:8], "big"):
                first = number[8:16] if kind == b"co64" else number[8:12]
                streams.append([(int.from_bytes(first, "big"), CHUNK)])
    for extents in streams:
        if sum(size for _, size in extents) > length + CHUNK:
            raise ValueError("items that are longer than the file")
        data = b""
        for at, size in extents:
            file.seek(at)
            data += file.read(size)
        yield from _av1(data)


def _boxes(file: IO[bytes], start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yields the kind, content start and content end of each box between two offsets, and of the boxes inside it."""
    while start + 8 <= end:
        file.seek(start)
        length, kind = struct.unpack(">I4s", file.read(8))
        inner = start + 8
        if length == 1:
            length, inner = int.from_bytes(file.read(8), "big"), start + 16
        stop = end if length == 0 else start + length
        if stop < inner or stop > end:
            return  # a cut file, which the decoder reports
        yield kind, inner, stop
        if kind in CONTAINERS:
            yield from _boxes(file, inner + CONTAINERS[kind], stop)
        start = stop


def _items(box: bytes, stored: int) -> Iterator[list[Size]]:
    """Yields each item's extents as (offset, length); `stored` is the offset of the `idat` box's content."""
    data = io.BytesIO(box)

    def number(size: int) -> int:
        return int.from_bytes(data.read(size), "big")

    version, _, sizes, more = number(1), number(3), number(1), number(1)
    for _ in range(number(4 if version == 2 else 2)):
        number(4 if version == 2 else 2)  # the item's ID
        method = number(2) & 0xF if version else 0
        number(2)
        base = number(more >> 4) + (stored if method == 1 else 0)
        extents = []
        for _ in range(number(2)):
            number(more & 0xF if version else 0)
            extents.append((base + number(sizes >> 4), number(sizes & 0xF)))
        yield extents
        if data.tell() >= len(box):
            return


def _av1(data: bytes) -> Iterator[Size]:
    """Yields the sizes that the sequence headers of an AV1 stream name (AV1 specification, section 5.5)."""
    at = 0
    while at < len(data):
        head, at = data[at], at + 1
        at += head >> 2 & 1  # the extension byte
        size, shift = 0, 0
        if head >> 1 & 1:
            while at < len(data):
                size |= (data[at] & 0x7F) << shift
                shift, at = shift + 7, at + 1
                if data[at - 1] < 0x80:
                    break
        else:
            size = len(data) - at
        if head >> 3 & 0xF == 1:
            yield _sequence(data[at : at + min(size, 256)])
        at += size


def _sequence(header: bytes) -> Size:
    bits, at = int.from_bytes(header, "big"), 8 * len(header)

    def take(count: int) -> int:
        nonlocal at
        at -= count
        if at < 0:
            raise ValueError("a cut AV1 sequence header")
        return bits >> at & ((1 << count) - 1)

    take(4)  # profile, still picture
    if take(1):
        take(5)
    else:
        delay, model = 0, 0
        if take(1):  # timing
            take(64)
            if take(1):
                zeros = 0
                while not take(1):
                    zeros += 1
                take(zeros)
            if model := take(1):
                delay = take(5) + 1
                take(42)
        delayed = take(1)
        for _ in range(take(5) + 1):  # operating points
            take(12)
            if take(5) > 7:
                take(1)
            if model and take(1):
                take(2 * delay + 1)
            if delayed and take(1):
                take(4)
    across, down = take(4) + 1, take(4) + 1
    return take(across) + 1, take(down) + 1
