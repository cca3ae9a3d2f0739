"""Decodes files to images: a file's format, the limit on its pixels, and a one-line InputError for every failure.

Files come from anywhere, and decoders were written for whole files. So a file that claims more pixels than allowed is
not decoded, only picture formats are tried, and every error of a decoder becomes an InputError with the file's name.
"""

from __future__ import annotations

import io
import logging
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from nst.errors import InputError, one_line, shown
from nst.pictures import tiff
from nst.pictures.claims import claims
from nst.pictures.profiles import is_srgb

FORMATS = {
    "PNG": "PNG",
    "JPEG": "JPEG",
    "TIFF": "TIFF",
    "WEBP": "WebP",
    "AVIF": "AVIF",
    "GIF": "GIF",
    "BMP": "BMP",
    "DIB": "BMP",
    "JPEG2000": "JPEG 2000",
    "PSD": "PSD",
    "PPM": "PPM",
    "PCX": "PCX",
    "SGI": "SGI",
    "DDS": "DDS",
    "QOI": "QOI",
    "ICO": "ICO",
    "ICNS": "ICNS",
    "TGA": "TGA",  # the last, since any bytes may pass for TGA
}
"""The formats that are read: Pillow's name and the common name. Pillow's other formats start programs or are rare."""

MAX_PIXELS = 178_956_970
"""Pixels above which a file may be a decompression bomb; the limit at which Pillow refuses."""

BYTES_PER_PIXEL, HEADERS = 16, 1 << 26
"""Bytes above which a file is refused: four channels of 32 bits for each allowed pixel, and 64 MiB for headers."""

LONGEST_TEXT = 1 << 18
"""Characters above which a text is not taken for a record of how a picture was made."""

HEADER_BUDGET = 1 << 24
"""The most bytes of a file that are read in search of its record."""

PNG_KEY, DESCRIPTION = "nst", 0x010E
"""Places of a picture's record: the key of PNG's text chunk, and the ImageDescription tag of EXIF and TIFF."""

_settings = threading.RLock()


def read(path: Path, key: str, max_pixels: int) -> Image.Image | NDArray[np.uint16]:
    """Decodes a picture file: to a Pillow image, or to an array (H, W, 3 or 4) for colour with 16 bits.

    Args:
        path: The file.
        key: The setting that named the file, for error messages.
        max_pixels: Refuse a file that claims more pixels in any header.

    Raises:
        InputError: If the file is missing or too large. Call `read` inside `refused`, which turns the errors for
            damaged files and formats outside FORMATS into InputErrors.
    """
    with _open(path, key) as file:
        if (size := os.fstat(file.fileno()).st_size) > HEADERS + BYTES_PER_PIXEL * max_pixels:
            raise _too_large(path, key, f"is {size} bytes long, more than they need", max_pixels)
        for width, height in claims(file):
            _check_pixels(width, height, path, key, max_pixels)
        image = _opened(file, max_pixels)
        _check_pixels(*image.size, path, key, max_pixels)
        with _unheard() if image.format == "TIFF" else nullcontext():
            with _limited(4 * max_pixels):  # samples, not pixels
                values = tiff.deep_values(image, file, is_srgb)
            if values is not None:
                return values
            with _limited(max_pixels):
                image.load()
        _check_pixels(*image.size, path, key, max_pixels)
        return image


def check(path: Path, key: str, max_pixels: int) -> None:
    """Raises an InputError unless a file says that it is a picture of at most so many pixels; nothing is decoded.

    Args:
        path: The file.
        key: The setting that named the file, for error messages.
        max_pixels: Refuse a file that claims more pixels in any header.
    """
    with refused(path, key, max_pixels), _open(path, key) as file:
        for width, height in claims(file):
            _check_pixels(width, height, path, key, max_pixels)
        _check_pixels(*_opened(file, max_pixels).size, path, key, max_pixels)


@contextmanager
def refused(path: Path, key: str, max_pixels: int) -> Iterator[None]:
    """Turns every error of a decoder into an InputError that names the file."""
    try:
        yield
    except InputError:
        raise
    except UnidentifiedImageError:
        known = ", ".join(dict.fromkeys(FORMATS[name] for name in _formats()))
        raise InputError(
            f"Expected --{key} to be a picture file, but {shown(path)} is none that can be read; give one of {known}"
        ) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_large(path, key, "holds a picture of more", max_pixels) from None
    except MemoryError:
        raise InputError(
            f"Expected --{key} to be a picture that can be decoded in this memory, but {shown(path)} cannot; "
            "it is damaged, or give a smaller one"
        ) from None
    except Exception as error:  # decoders raise nearly all of Python's errors for damaged files
        said = one_line(error) or type(error).__name__
        raise InputError(f"Expected --{key} to be a whole picture, but {shown(path)} is damaged ({said})") from None


def read_metadata(path: str | os.PathLike[str]) -> str | None:
    """Returns the text that `images.save` stored in a picture file, or None for a file without such a text.

    No pixel is decoded, and a text above LONGEST_TEXT is ignored.
    """
    try:
        if not os.path.isfile(path):
            return None
        with open(path, "rb", buffering=0) as raw, _Sparing(raw) as file, _limited(None):
            text = _description(file)
    except Exception:  # decoders raise nearly all of Python's errors for damaged files
        return None
    return str(text) if isinstance(text, str) and 0 < len(text) <= LONGEST_TEXT else None


class _Sparing(io.BufferedReader):
    """A file reader that raises an OSError after HEADER_BUDGET bytes, more than a picture's header needs."""

    left = HEADER_BUDGET

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(self.left if size is None or size < 0 else min(size, self.left))
        self.left -= len(data)
        if not self.left:
            raise OSError("too much before the picture")
        return data


def _description(file: IO[bytes]) -> object:
    head = file.read(12)
    if head[:4] != b"RIFF" or head[8:] != b"WEBP":
        with Image.open(file, formats=("PNG", "JPEG", "TIFF")) as image:
            # PNG's EXIF may follow the pixels, and Pillow would decode the pixels to reach it
            return image.info.get(PNG_KEY) if image.format == "PNG" else image.getexif().get(DESCRIPTION)
    # a WebP file holds its EXIF after the pixels, in a chunk of its own
    while len(chunk := file.read(8)) == 8:
        size = int.from_bytes(chunk[4:], "little")
        if chunk[:4] == b"EXIF":
            exif = Image.Exif()
            exif.load(file.read(size))
            return exif.get(DESCRIPTION)
        file.seek(size + size % 2, os.SEEK_CUR)
    return None


def _open(path: Path, key: str) -> IO[bytes]:
    """Opens a regular file; raises an InputError for a file that is missing, or vanishes at this moment."""
    try:
        if os.path.isfile(path):
            return open(path, "rb")
        os.stat(path)
        what = "is a folder" if os.path.isdir(path) else "is a device or a pipe"
    except FileNotFoundError:
        what = "does not exist"
    except OSError as error:
        what = f"cannot be read ({error.strerror})"
    except ValueError:
        what = "is a name that no file has"
    raise InputError(f"Expected --{key} to be a picture file, but {shown(path)} {what}")


def _opened(file: IO[bytes], max_pixels: int) -> Image.Image:
    """Returns an image whose pixels are not decoded yet, but for an icon, which Pillow decodes when it opens it."""
    file.seek(0)
    icon = file.read(4) == b"\0\0\1\0"
    with _limited(max_pixels if icon else None):
        return Image.open(file, formats=_formats())


def _formats() -> tuple[str, ...]:
    """Returns the FORMATS that the installed Pillow reads."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


@contextmanager
def _limited(max_pixels: int | None) -> Iterator[None]:
    """Limits Pillow's pixels, also for pictures inside pictures, and silences Pillow; then restores its settings."""
    log = logging.getLogger("PIL")
    with _settings, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # remarks on odd metadata
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        limit, level = Image.MAX_IMAGE_PIXELS, log.level
        Image.MAX_IMAGE_PIXELS = max_pixels
        log.setLevel(logging.CRITICAL + 1)
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit
            log.setLevel(level)


@contextmanager
def _unheard() -> Iterator[None]:
    """Keeps messages of the TIFF library, which writes past Python, off the screen; errors are raised all the same."""
    try:
        kept = os.dup(2)
    except OSError:  # stderr is closed
        yield
        return
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _check_pixels(width: int, height: int, path: Path, key: str, max_pixels: int) -> None:
    if width * height > max_pixels:
        what = f"has {width}×{height}, which may be a decompression bomb"
        raise _too_large(path, key, what, max_pixels, str(width * height))


def _too_large(path: Path, key: str, what: str, max_pixels: int, allowed: str = "of more") -> InputError:
    return InputError(
        f"Expected --{key} to have at most {max_pixels} pixels, but {shown(path)} {what}; if you trust the file, allow "
        f"it with --data.max_pixels {allowed}"
    )
