"""Colour TIFFs with 16 bits a channel, which Pillow cuts to 8.

Pillow reads grey with 16 bits, whatever the compression. So the strips or tiles of a colour file are given a
new header, which declares every sample a grey pixel of a picture that is three or four times as wide.
"""

from __future__ import annotations

import io
import itertools
import struct
from collections.abc import Callable
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER, ORIENTATION, SAMPLES = 256, 257, 258, 259, 262, 266, 274, 277
ROWS, PLANAR, PREDICTOR, EXTRA, FORMAT, PROFILE = 278, 284, 317, 338, 339, 34675
STRIPS, TILES = (273, 279), (324, 325)
"""Tags of the offsets and byte counts of strips, and of tiles."""

TILE_WIDTH, TILE_HEIGHT = 322, 323

PREDICTED = (5, 8, 32946, 34925, 50000)
"""Compressions that may store differences between adjacent pixels: LZW, both names of deflate, LZMA and Zstandard."""

UNASSOCIATED = 2
"""Kind of a fourth channel: unassociated alpha, an opacity by which the colours are not multiplied."""


def deep_values(image: Image.Image, file: IO[bytes], is_srgb: Callable[[object], bool]) -> NDArray[np.uint16] | None:
    """Returns the pixel values, (H, W, 3 or 4), of an upright sRGB TIFF with 16 bits a channel; None for other files.

    Args:
        image: Pillow's image of the opened file, whose pixels are not decoded.
        file: The open file.
        is_srgb: Tells whether a colour profile means sRGB.
    """
    tags: Any = getattr(image, "tag_v2", {})
    try:
        return _values(tags, file) if _is_deep(tags) and (PROFILE not in tags or is_srgb(tags[PROFILE])) else None
    except MemoryError:
        raise
    except Exception:  # Pillow may read an odd file in 8 bits, and reports a damaged file
        return None


def _is_deep(tags: Any) -> bool:
    plain = {PHOTOMETRIC: 2, FILL_ORDER: 1, ORIENTATION: 1, PLANAR: 1}
    return (
        tags.get(SAMPLES) in (3, 4)
        and set(tags.get(BITS, ())) == {16}
        and set(tags.get(FORMAT, (1,))) == {1}
        and all(tags.get(tag, value) == value for tag, value in plain.items())
        and tags.get(EXTRA, ()) in ((), (0,), (UNASSOCIATED,))
    )


def _values(tags: Any, file: IO[bytes]) -> NDArray[np.uint16]:
    width, height, samples = tags[WIDTH], tags[HEIGHT], tags[SAMPLES]
    with Image.open(io.BytesIO(_as_grey(tags, file)), formats=("TIFF",)) as grey:
        values = np.asarray(grey).astype(np.uint16).reshape(height, width, samples)
    if tags.get(PREDICTOR, 1) == 2 and tags.get(COMPRESSION, 1) in PREDICTED:
        across = tags.get(TILE_WIDTH, width)
        for left in range(0, width, across):
            tile = values[:, left : left + across]
            np.cumsum(tile, axis=1, dtype=np.uint16, out=tile)  # differences wrap around, and so do their sums
    return values if tags.get(EXTRA) == (UNASSOCIATED,) else values[..., :3]


def _as_grey(tags: Any, file: IO[bytes]) -> bytes:
    """Returns a TIFF of the same strips or tiles, in which each sample is a grey pixel."""
    samples, tiled = tags[SAMPLES], TILES[0] in tags
    starts, counts = (tuple(tags[tag]) for tag in (TILES if tiled else STRIPS))
    if len(starts) != len(counts) or sum(counts) > file.seek(0, io.SEEK_END):
        raise ValueError("strips that are longer than the file")
    parts = []
    for start, count in zip(starts, counts, strict=True):
        file.seek(start)
        parts.append(file.read(count))
    if tiled:
        shape = {TILE_WIDTH: tags[TILE_WIDTH] * samples, TILE_HEIGHT: tags[TILE_HEIGHT]}
    else:
        shape = {ROWS: min(tags.get(ROWS, tags[HEIGHT]), tags[HEIGHT])}
    numbers = {WIDTH: tags[WIDTH] * samples, HEIGHT: tags[HEIGHT], **shape}
    short = {BITS: 16, COMPRESSION: tags.get(COMPRESSION, 1), PHOTOMETRIC: 1, SAMPLES: 1}
    order = "<" if tags.prefix == b"II" else ">"
    entries = {tag: struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in numbers.items()}
    entries |= {tag: struct.pack(f"{order}HHIHH", tag, 3, 1, value, 0) for tag, value in short.items()}
    after = 8 + 2 + 12 * (len(entries) + 2) + 4
    data = after + 8 * len(parts)
    places = [data + length for length in itertools.accumulate(counts, initial=0)][:-1]
    arrays = b""
    for tag, values in zip(TILES if tiled else STRIPS, (places, counts), strict=True):
        packed = struct.pack(f"{order}{len(values)}I", *values)
        if len(values) == 1:  # a single number is stored in the entry itself
            entries[tag] = struct.pack(f"{order}HHI", tag, 4, 1) + packed
        else:
            entries[tag] = struct.pack(f"{order}HHII", tag, 4, len(values), after + len(arrays))
        arrays += packed
    head: bytes = tags.prefix + struct.pack(f"{order}HIH", 42, 8, len(entries))
    return head + b"".join(entries[tag] for tag in sorted(entries)) + bytes(4) + arrays + b"".join(parts)
