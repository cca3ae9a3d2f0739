"""Pictures from files to tensors and back: EXIF, colour profiles, alpha, bit depth, atomic writes."""

from __future__ import annotations

import io
import os
import struct
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any

import numpy as np
import tifffile
import torch
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps, PngImagePlugin, UnidentifiedImageError
from torch import Tensor

from nst.errors import InputError, RunError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff")
"""Formats that a result can be written in; TIFF has 16 bits a channel, the others 8."""

MAX_PIXELS = 178_956_970
"""Pixels above which a file may be a decompression bomb; the limit at which Pillow refuses."""

PNG_KEY, DESCRIPTION = "nst", 0x010E
"""Where a picture's metadata is: the key of PNG's text, and the ImageDescription of EXIF and TIFF."""

LONGEST_IN_JPEG = 65_000
"""Characters above which JPEG has no place for a description."""


@dataclass(frozen=True)
class Picture:
    """A decoded picture.

    Attributes:
        rgb: (1, 3, H, W), float32, sRGB-encoded, in [0, 1].
        alpha: Opacity, (1, 1, H, W), float32, in [0, 1], or None for an opaque picture.
        name: Where it came from, for people.
    """

    rgb: Tensor
    alpha: Tensor | None = None
    name: str = "picture"

    @property
    def height(self) -> int:
        return self.rgb.shape[2]

    @property
    def width(self) -> int:
        return self.rgb.shape[3]

    def resized(self, height: int, width: int) -> Picture:
        """Returns the picture at another size, resampled by an antialiased Lanczos filter."""
        alpha = None if self.alpha is None else resize(self.alpha, height, width)
        return Picture(resize(self.rgb, height, width), alpha, self.name)


def resize(image: Tensor, height: int, width: int, smooth: bool = False) -> Tensor:
    """Resamples (1, C, H, W) to (1, C, height, width), clipped to [0, 1].

    By an antialiased Lanczos filter, or where it is to be smooth by a triangle, which does not ring.
    """
    if image.shape[2:] == (height, width):
        return image
    kind = Image.Resampling.BILINEAR if smooth else Image.Resampling.LANCZOS
    channels = [np.asarray(Image.fromarray(channel.numpy()).resize((width, height), kind)) for channel in image[0]]
    return torch.from_numpy(np.stack(channels))[None].clamp(0, 1)


def periodic(image: Tensor) -> Tensor:
    """Takes from an image, (1, C, H, W) in [0, 1], the smooth part that keeps it from tiling.

    What is inside stays, but for slow changes of brightness; the steps between opposite borders are gone.

    Source:
        Moisan, "Periodic plus smooth image decomposition" (2011), equations 7 to 11. We repeat it, since clipping to
        [0, 1] brings a little of the steps back.
    """
    wide = image.double()
    down, right = (2 * torch.cos(2 * torch.pi * torch.fft.fftfreq(n, dtype=torch.float64)) for n in image.shape[2:])
    laplacian = down[:, None] + right[None, :] - 4
    laplacian[0, 0] = 1  # the mean has no step
    for _ in range(5):
        steps = torch.zeros_like(wide)
        for dim in (2, 3):
            step = wide.narrow(dim, -1, 1) - wide.narrow(dim, 0, 1)
            steps.narrow(dim, 0, 1).add_(step)
            steps.narrow(dim, -1, 1).sub_(step)
        wide = (wide - torch.fft.ifft2(torch.fft.fft2(steps) / laplacian).real).clamp(0, 1)
    return wide.to(image)


def load(path: str | os.PathLike[str], key: str = "picture", max_pixels: int = MAX_PIXELS) -> Picture:
    """Reads a picture file of any format that Pillow knows.

    EXIF orientation is applied, a colour profile is converted to sRGB, and the colour of fully transparent pixels is
    replaced by the visible pixels' mean, so that no hidden colour takes part.

    Args:
        path: The file.
        key: The setting that named the file, for error messages.
        max_pixels: Refuse larger pictures, which may be decompression bombs.

    Returns:
        The picture.

    Raises:
        InputError: If there is no such file, or it is not a whole picture, or too large.
    """
    path = Path(path)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise InputError(f"Expected --{key} to be a picture file, but {path} {what}")
    try:
        with path.open("rb") as file:
            return decode(_open(file, path, key, max_pixels), path.name)
    except InputError:
        raise
    except UnidentifiedImageError:
        raise InputError(f"Expected --{key} to be a picture file, but {path} is none that can be read") from None
    except (OSError, SyntaxError, ValueError, struct.error, tifffile.TiffFileError) as error:
        raise InputError(f"Expected --{key} to be a whole picture, but {path} is damaged ({error})") from None


def decode(image: Image.Image | NDArray[np.uint16], name: str = "picture") -> Picture:
    """Converts a Pillow image, or an array (H, W, 3 or 4) of 16-bit values, to a picture."""
    if isinstance(image, np.ndarray):
        values: NDArray[np.float32] = image.astype(np.float32) / np.float32(65535)
    else:
        values = _pixels(ImageOps.exif_transpose(image))
    tensor = torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1)))[None]
    rgb, alpha = tensor[:, :3].contiguous(), tensor[:, 3:].contiguous()
    if not alpha.numel() or bool((alpha == 1).all()):
        return Picture(rgb, None, name)
    mean = (rgb * alpha).sum((2, 3), keepdim=True) / alpha.sum().clamp(min=1e-6)
    return Picture(torch.where(alpha > 0, rgb, mean), alpha, name)


def encode(rgb: Tensor, alpha: Tensor | None = None) -> Image.Image:
    """Converts a picture, (1, 3, H, W) in [0, 1], and its opacity, (1, 1, H, W), to an 8-bit Pillow image."""
    return Image.fromarray(_quantised(rgb, alpha, np.uint8))


def save(rgb: Tensor, path: str | os.PathLike[str], alpha: Tensor | None = None, metadata: str | None = None) -> None:
    """Writes a picture in the format of the path's suffix, with an sRGB profile; a file there is replaced at once.

    Args:
        rgb: (1, 3, H, W) in [0, 1].
        path: Ends in one of SUFFIXES.
        alpha: Opacity, (1, 1, h, w), brought to the picture's size; JPEG has none and gets a white ground.
        metadata: ASCII text on how the picture was made, kept as PNG text `nst`, or as EXIF's or TIFF's description.

    Raises:
        InputError: If the suffix is not one of SUFFIXES.
        RunError: If the file cannot be written; a file that was there before is untouched.
    """
    path = Path(path)
    suffix = _suffix(path)
    profile = srgb_profile()
    exif, text = b"", PngImagePlugin.PngInfo()
    if metadata is not None:
        text.add_text(PNG_KEY, metadata)
        described = Image.Exif()
        described[DESCRIPTION] = metadata
        if suffix not in (".jpg", ".jpeg") or len(metadata) < LONGEST_IN_JPEG:
            exif = described.tobytes()

    def write(file: IO[bytes]) -> None:
        if suffix in (".tif", ".tiff"):
            extra = None if alpha is None else ["unassalpha"]
            values = _quantised(rgb, alpha, np.uint16)
            tifffile.imwrite(
                file,
                values,
                photometric="rgb",
                compression="zlib",
                iccprofile=profile,
                metadata=None,
                extrasamples=extra,
                description=metadata,
            )
        elif suffix in (".jpg", ".jpeg"):
            ground = rgb if alpha is None else rgb * _fitted(alpha, rgb) + (1 - _fitted(alpha, rgb))
            encode(ground).save(file, "JPEG", quality=95, subsampling=0, icc_profile=profile, exif=exif)
        elif suffix == ".webp":
            encode(rgb, alpha).save(file, "WEBP", quality=95, method=4, icc_profile=profile, exif=exif)
        else:
            encode(rgb, alpha).save(file, "PNG", icc_profile=profile, pnginfo=text)

    write_atomically(path, write)


def read_metadata(path: str | os.PathLike[str]) -> str | None:
    """Returns the text that `save` kept in a picture, or None where there is none or the file is no picture."""
    try:
        if Path(path).suffix.lower() in (".tif", ".tiff"):
            with tifffile.TiffFile(path) as tiff:
                return str(tiff.pages.first.description) or None
        with Image.open(path) as image:
            found = image.info.get(PNG_KEY) or image.getexif().get(DESCRIPTION)
            return found if isinstance(found, str) else None
    except (OSError, SyntaxError, ValueError, struct.error, tifffile.TiffFileError):
        return None


def write_atomically(path: Path, write: Callable[[IO[bytes]], None]) -> None:
    """Writes a file beside its place and moves it there when it is whole and on the disk.

    Raises:
        RunError: If it cannot be written; what was there before is untouched, and nothing is left behind.
    """
    part: str | None = None
    try:
        with tempfile.NamedTemporaryFile("w+b", dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            part = file.name
            write(file)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(part, 0o666 & ~umask)
        os.replace(part, path)
    except OSError as error:
        reason = error.strerror or error
        raise RunError(
            f"Expected to write {path}, but the system says: {reason}; what was there before is unchanged. "
            "Make room, or choose another place with --output or --trainer.default_root_dir"
        ) from error
    finally:
        if part is not None and os.path.exists(part):
            os.unlink(part)


def check_output(path: str | os.PathLike[str]) -> None:
    """Raises an InputError unless a picture can be written to that path."""
    path = Path(path)
    _suffix(path)
    if path.is_dir():
        raise InputError(f"Expected --output to be a file, but {path} is a folder")
    if not path.parent.is_dir():
        raise InputError(f"Expected --output to be in a folder that exists, but {path.parent} does not; make it first")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise InputError(
            f"Expected --output to be in a folder that can be written, but {path.parent} cannot ({error.strerror})"
        ) from None


@cache
def srgb_profile() -> bytes:
    """Returns an ICC profile for sRGB, the same bytes at any time."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[24:36] = struct.pack(">6H", 2000, 1, 1, 0, 0, 0)  # when it was made
    return bytes(profile)


def _suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f"Expected --output to end in one of {', '.join(SUFFIXES)}, but got {path}")
    return suffix


def _open(file: IO[bytes], path: Path, key: str, max_pixels: int) -> Image.Image | NDArray[np.uint16]:
    """Opens a file with Pillow, or with tifffile what Pillow would cut to 8 bits: colour TIFFs with 16 bits."""
    if path.suffix.lower() in (".tif", ".tiff") and (page := _deep_page(file)) is not None:
        _check_pixels(page.shape[1], page.shape[0], path, key, max_pixels)
        return np.asarray(page.asarray())
    file.seek(0)
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # checked here, against our own limit
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # remarks on odd metadata
            image = Image.open(file)
            _check_pixels(*image.size, path, key, max_pixels)
            image.load()
            return image
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _deep_page(file: IO[bytes]) -> Any:
    """Returns a TIFF's first page if it is upright sRGB with 16 bits a channel, else None."""
    try:
        page: Any = tifffile.TiffFile(file).pages[0]
    except (tifffile.TiffFileError, IndexError, ValueError):
        return None
    profile, turned = page.tags.get("InterColorProfile"), page.tags.get("Orientation")
    deep = page.dtype == np.uint16 and page.ndim == 3 and page.shape[2] in (3, 4) and page.photometric.name == "RGB"
    plain = (profile is None or profile.value == srgb_profile()) and (turned is None or turned.value == 1)
    return page if deep and plain else None


def _check_pixels(width: int, height: int, path: Path, key: str, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise InputError(
            f"Expected --{key} to have at most {max_pixels} pixels, but {path} has {width}×{height}, which may be a "
            f"decompression bomb; if you trust the file, allow it with --data.max_pixels {width * height}"
        )


def _pixels(image: Image.Image) -> NDArray[np.float32]:
    """Returns the values of any Pillow image as (H, W, 3), or (H, W, 4) with alpha, sRGB-encoded, in [0, 1]."""
    if image.mode.startswith("I") or image.mode == "F":
        grey = np.asarray(image).astype(np.float32)
        # 32-bit integers hold what a 16-bit file had; floats are in [0, 1], or in [0, 255] by an older custom
        scale = 65535 if image.mode.startswith("I") else 255 if grey.max(initial=0) > 1 else 1
        return np.repeat((grey / scale).clip(0, 1)[..., None], 3, axis=2)
    alpha = None
    if image.has_transparency_data:
        image = _keeping_profile(image, "RGBA")
        alpha = np.asarray(image.getchannel("A"))
        image = _keeping_profile(image, "RGB")
    elif image.mode not in ("L", "RGB", "CMYK", "LAB"):
        image = _keeping_profile(image, "RGB")
    rgb = np.asarray(_to_srgb(image))
    values = rgb if alpha is None else np.dstack([rgb, alpha])
    return values.astype(np.float32) / np.float32(255)


def _keeping_profile(image: Image.Image, mode: str) -> Image.Image:
    converted = image.convert(mode)
    profile = image.info.get("icc_profile")
    if profile is not None and image.mode not in ("CMYK", "L", "LA"):
        converted.info["icc_profile"] = profile
    else:
        converted.info.pop("icc_profile", None)
    return converted


def _to_srgb(image: Image.Image) -> Image.Image:
    """Converts an image to RGB by its profile; one that is broken or does not fit is passed over."""
    data = image.info.get("icc_profile")
    try:
        if image.mode == "LAB" and not data:
            source = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
        elif data:
            source = ImageCms.ImageCmsProfile(io.BytesIO(data))
            if image.mode == "RGB" and "sRGB" in ImageCms.getProfileDescription(source):
                return image
        else:
            return image.convert("RGB")
        converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
        return converted if converted is not None else image.convert("RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image.convert("RGB")


def _fitted(alpha: Tensor, rgb: Tensor) -> Tensor:
    """Returns the opacity at the picture's size, which is smaller while a run is on its way to the last level."""
    return resize(alpha.cpu(), rgb.shape[2], rgb.shape[3]).to(rgb)


def _quantised(rgb: Tensor, alpha: Tensor | None, dtype: type[np.uint8] | type[np.uint16]) -> NDArray[Any]:
    values = rgb if alpha is None else torch.cat([rgb, _fitted(alpha, rgb)], dim=1)
    top = np.iinfo(dtype).max
    channels = [(x.clamp(0, 1) * top).round().numpy().astype(dtype) for x in values.detach().float().cpu()[0]]
    return np.stack(channels, axis=2)
