"""Pictures from files to tensors and back: EXIF, colour profiles, alpha, bit depth, atomic writes."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin
from torch import Tensor

from nst.errors import InputError, one_line, shown
from nst.pictures import decoding
from nst.pictures.decoding import DESCRIPTION, MAX_PIXELS, PNG_KEY
from nst.pictures.files import suffix_of, write_atomically
from nst.pictures.geometry import resize
from nst.pictures.profiles import srgb_profile, to_srgb

LONGEST_IN_JPEG = 65_000
"""Characters from which a description is too long for a JPEG file."""

ORIENTATION = 0x0112
"""EXIF's tag of the camera's orientation."""

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""The transposition that brings a picture upright, by its EXIF orientation."""


@dataclass(frozen=True)
class Picture:
    """A decoded picture.

    Attributes:
        rgb: (1, 3, H, W), float32, sRGB-encoded, in [0, 1].
        alpha: Opacity, (1, 1, H, W), float32, in [0, 1], or None for an opaque picture.
        name: Name of the picture's source, for people.
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


def load(path: str | os.PathLike[str], key: str = "picture", max_pixels: int = MAX_PIXELS) -> Picture:
    """Reads a picture file of one of `decoding.FORMATS`.

    EXIF orientation is applied, a colour profile is converted to sRGB, and the colour of fully transparent pixels is
    replaced by the visible pixels' mean, so that no hidden colour takes part.

    Args:
        path: The file.
        key: The setting that named the file, for error messages.
        max_pixels: Refuse larger pictures, which may be decompression bombs.

    Returns:
        The picture.

    Raises:
        InputError: If the file does not exist, is not a whole picture or is too large.
    """
    path = Path(path)
    with decoding.refused(path, key, max_pixels):
        return _decoded(decoding.read(path, key, max_pixels), shown(path.name))


def decode(image: Image.Image | NDArray[np.uint16], name: str = "picture") -> Picture:
    """Converts a Pillow image, or an array (H, W, 3 or 4) of 16-bit values, to a picture.

    Raises:
        InputError: If the image cannot be decoded.
    """
    try:
        return _decoded(image, name)
    except Exception as error:  # Pillow decodes an opened image only here, and the file may be damaged
        said = one_line(error) or type(error).__name__
        raise InputError(f"Expected {name} to be a whole picture, but it is damaged ({said})") from error


def encode(rgb: Tensor, alpha: Tensor | None = None) -> Image.Image:
    """Converts a picture, (1, 3, H, W) in [0, 1], and its opacity, (1, 1, H, W), to an 8-bit Pillow image."""
    return Image.fromarray(_quantised(rgb, alpha, np.uint8))


def save(rgb: Tensor, path: str | os.PathLike[str], alpha: Tensor | None = None, metadata: str | None = None) -> None:
    """Writes a picture in the format of the path's suffix, with an sRGB profile; replaces a file atomically.

    Args:
        rgb: The picture, (1, 3, H, W) in [0, 1].
        path: A path that ends in one of SUFFIXES.
        alpha: Opacity, (1, 1, h, w), resampled to the picture's size; a JPEG file gets a white ground instead.
        metadata: ASCII text on how the picture was made, stored as PNG text `nst`, or as EXIF's or TIFF's description.

    Raises:
        InputError: If the suffix is not one of SUFFIXES.
        RunError: If the file cannot be written; an existing file is untouched.
    """
    path = Path(path)
    suffix = suffix_of(path)
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
            import tifffile  # which few runs need

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


def _decoded(image: Image.Image | NDArray[np.uint16], name: str) -> Picture:
    planes = _planes(image, 65535) if isinstance(image, np.ndarray) else _channels(image)
    rgb, alpha = planes[:, :3], planes[:, 3:]
    if not alpha.numel() or bool((alpha == 1).all()):
        return Picture(rgb, None, name)
    mean = (rgb * alpha).sum((2, 3), keepdim=True) / alpha.sum().clamp(min=1e-6)
    return Picture(torch.where(alpha > 0, rgb, mean), alpha, name)


def _channels(image: Image.Image) -> Tensor:
    """Returns the values of any Pillow image, (1, 3, H, W), or with alpha (1, 4, H, W), sRGB-encoded, in [0, 1]."""
    image.load()
    image = _upright(image)
    if image.mode.startswith("I") or image.mode == "F":
        grey = np.nan_to_num(np.asarray(image).astype(np.float32), posinf=1)
        # 32-bit integers hold the values of a 16-bit file; floats are in [0, 1], or by an older custom in [0, 255]
        scale = 65535 if image.mode.startswith("I") else 255 if grey.max(initial=0) > 1 else 1
        return torch.from_numpy((grey / scale).clip(0, 1)).expand(1, 3, -1, -1).contiguous()
    alpha = None
    if image.has_transparency_data:
        image = _keeping_profile(image, "RGBA")
        alpha = np.asarray(image.getchannel("A"))
        image = _keeping_profile(image, "RGB")
    elif image.mode not in ("L", "RGB", "CMYK", "LAB"):
        image = _keeping_profile(image, "RGB")
    rgb = np.asarray(to_srgb(image))
    return _planes(rgb if alpha is None else np.dstack([rgb, alpha]), 255)


def _planes(values: NDArray[np.uint8] | NDArray[np.uint16], top: int) -> Tensor:
    """Converts integers up to `top`, (H, W, C), to fractions, (1, C, H, W), without a copy besides the result."""
    planes = np.empty((1, values.shape[2], *values.shape[:2]), np.float32)
    for channel in range(values.shape[2]):
        np.divide(values[..., channel], np.float32(top), out=planes[0, channel], dtype=np.float32)
    return torch.from_numpy(planes)


def _upright(image: Image.Image) -> Image.Image:
    """Turns an image upright by its EXIF orientation; broken EXIF is ignored."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # remarks on odd metadata
            turn = TURNS.get(image.getexif().get(ORIENTATION, 1))
    except MemoryError:
        raise
    except Exception:
        turn = None
    return image if turn is None else image.transpose(turn)


def _keeping_profile(image: Image.Image, mode: str) -> Image.Image:
    converted = image.convert(mode)
    profile = image.info.get("icc_profile")
    if profile is not None and image.mode not in ("CMYK", "L", "LA"):
        converted.info["icc_profile"] = profile
    else:
        converted.info.pop("icc_profile", None)
    return converted


def _fitted(alpha: Tensor, rgb: Tensor) -> Tensor:
    """Resamples the opacity to the picture's size, which is smaller at every level but the last."""
    return resize(alpha.cpu(), rgb.shape[2], rgb.shape[3]).to(rgb)


def _quantised(rgb: Tensor, alpha: Tensor | None, dtype: type[np.uint8] | type[np.uint16]) -> NDArray[Any]:
    values = rgb if alpha is None else torch.cat([rgb, _fitted(alpha, rgb)], dim=1)
    top = np.iinfo(dtype).max
    channels = [(x.clamp(0, 1) * top).round().numpy().astype(dtype) for x in values.detach().float().cpu()[0]]
    return np.stack(channels, axis=2)
