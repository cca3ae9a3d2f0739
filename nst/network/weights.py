"""Sources of the network's weights: torchvision, a file, a random generator or the bundled network."""

from __future__ import annotations

import logging
import os
import pickle
import socket
import threading
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlparse

import safetensors.torch
import torch
from torch import Tensor
from torchvision.models import VGG16_Weights, VGG19_Weights, WeightsEnum

from nst.errors import InputError, check_choice, nearest
from nst.network.architecture import BLOCKS, WIDTHS, Weights

log = logging.getLogger(__name__)

Backbone = Literal["auto", "vgg19", "vgg16", "compact"]


COMPACT = Path(__file__).parents[1] / "assets" / "compact.safetensors"
PATIENCE = 8.0
"""Seconds until a host that does not answer counts as unreachable."""

_ENUMS: dict[str, WeightsEnum] = {"vgg16": VGG16_Weights.IMAGENET1K_V1, "vgg19": VGG19_Weights.IMAGENET1K_V1}


def load(backbone: Backbone = "auto", weights: str = "imagenet") -> Weights:
    """Loads the weights of a network.

    Args:
        backbone: `vgg19`, `vgg16`, `compact` or `auto`. `auto` is the network that a weights file holds; without a file
            it is VGG19 if its weights are in the cache or can be downloaded, else `compact`.
        weights: `imagenet` (torchvision's), the path of a `.pth` or `.safetensors` state dict, or `random:SEED`.

    Returns:
        The weights.

    Raises:
        InputError: If the weights cannot be loaded: the host is unreachable, or the file is missing, unsafe or of
            another network.
    """
    check_choice("model.backbone", backbone, Backbone)
    if weights.startswith("random:"):
        return _random(backbone, weights)
    if weights != "imagenet":
        return _from_file(backbone, Path(weights).expanduser())
    if backbone == "compact":
        return _compact()
    if backbone != "auto":
        return _imagenet(backbone)
    try:
        return _imagenet("vgg19")
    except InputError:
        if not COMPACT.exists():
            raise
    log.info(
        "VGG19's weights are not in the cache and cannot be downloaded: using the bundled compact network "
        "(choose with --model.backbone and --model.weights)"
    )
    return _compact()


def file(backbone: Backbone = "auto", weights: str = "imagenet") -> Path | None:
    """Returns the file from which `load` has read the weights of a network, or None for random weights."""
    if weights.startswith("random:"):
        return None
    if weights != "imagenet":
        return Path(weights).expanduser()
    cached = None if backbone == "compact" else _cached("vgg19" if backbone == "auto" else backbone)
    return COMPACT if cached is None or (backbone == "auto" and not cached.is_file()) else cached


def indices(blocks: tuple[int, ...]) -> list[int]:
    """Returns the positions of the convolutions in torchvision's `features`, where each is followed by a ReLU."""
    found, position = [], 0
    for count in blocks:
        found += [position + 2 * i for i in range(count)]
        position += 2 * count + 1
    return found


def from_state_dict(state: Mapping[str, Tensor], name: str, backbone: Backbone = "auto") -> Weights:
    """Picks the convolutions out of the state dict of a whole network or of its `features`.

    Args:
        state: Keys as in torchvision, `features.N.weight` or `N.weight`; other keys are ignored.
        name: Name of the network, for people.
        backbone: The expected network; with `auto`, any network of the family.

    Returns:
        The weights.

    Raises:
        InputError: If keys are missing, values are no plain tensors of floating-point numbers, shapes are inconsistent
            or numbers are not finite; the message names the key.
    """
    state = {key: value for key, value in state.items() if isinstance(key, str)}
    if any(key.startswith("features.") for key in state):
        state = {key.removeprefix("features."): value for key, value in state.items() if key.startswith("features.")}
    if backbone == "auto":
        family = "vgg16" if "17.weight" in state and "16.weight" not in state else "vgg19"
    else:
        family = "vgg16" if backbone == "compact" else backbone
    blocks = BLOCKS[family]
    wanted = [f"{i}.{part}" for i in indices(blocks) for part in ("weight", "bias")]
    missing = [f"features.{key}" for key in wanted if not isinstance(state.get(key), Tensor)]
    if missing:
        shown = ", ".join(missing[:4]) + (f" and {len(missing) - 4} more" if len(missing) > 4 else "")
        raise InputError(
            f"Expected the weights of {family}, but {name} has no {shown}; "
            "change --model.weights, or --model.backbone if it is another network's file"
        )
    _check_tensors(state, name, indices(blocks))
    convolutions = [(state[f"{i}.weight"].float(), state[f"{i}.bias"].float()) for i in indices(blocks)]
    for position, (weight, bias) in zip(indices(blocks), convolutions, strict=True):
        if not (weight.isfinite().all() and bias.isfinite().all()):  # ReLUs would turn a NaN into 0
            raise InputError(
                f"Expected features.{position} to hold finite numbers, but {name} has others; the file may be damaged, "
                "change --model.weights"
            )
    return Weights(name, blocks, convolutions)


def _check_tensors(state: Mapping[str, Tensor], name: str, positions: list[int]) -> None:
    """Raises an InputError unless the convolutions' tensors are plain and their shapes consistent.

    Only metadata is read: a tensor that claims more values than its storage holds is never expanded.
    """
    channels = 3
    for position in positions:
        weight, bias = state[f"{position}.weight"], state[f"{position}.bias"]
        for key, x in ((f"{position}.weight", weight), (f"{position}.bias", bias)):
            plain = x.layout == torch.strided and not x.is_quantized and x.device.type == "cpu"
            if not (plain and x.is_floating_point() and x.numel() * x.itemsize <= x.untyped_storage().nbytes()):
                kind = str(x.dtype).removeprefix("torch.")
                what = f"{kind} of {_layout(x)}" if x.is_floating_point() else kind
                raise InputError(
                    f"Expected features.{key} to be a plain tensor of floating-point numbers, but {name} has {what}; "
                    "change --model.weights"
                )
        if weight.dim() != 4 or not len(weight) or weight.shape[1:] != (channels, 3, 3):
            raise InputError(
                f"Expected features.{position}.weight to be (out, {channels}, 3, 3), but {name} has "
                f"{tuple(weight.shape)}; change --model.weights"
            )
        if bias.shape != weight.shape[:1]:
            raise InputError(
                f"Expected features.{position}.bias to be ({len(weight)},), but {name} has {tuple(bias.shape)}; "
                "change --model.weights"
            )
        channels = len(weight)


def _layout(x: Tensor) -> str:
    """Describes, for people, the layout of a tensor that is not plain."""
    if x.layout != torch.strided:
        return str(x.layout).removeprefix("torch.").replace("_", " ") + " layout"
    return "no values" if x.device.type != "cpu" else "overlapping values"


def _random(backbone: Backbone, weights: str) -> Weights:
    try:
        seed = int(weights.removeprefix("random:"))
    except ValueError:  # also raised for a number of thousands of digits
        shown = weights if len(weights) < 40 else f"{weights[:40]}..."
        raise InputError(f"Expected --model.weights to be random:SEED with a whole number, but got {shown}") from None
    if not -(2**63) <= seed < 2**64:
        raise InputError(f"Expected the seed of --model.weights to be below 2^64, but got {weights}")
    family = "vgg19" if backbone == "auto" else "vgg16" if backbone == "compact" else backbone
    generator = torch.Generator().manual_seed(seed)
    convolutions, channels = [], 3
    for width, count in zip(WIDTHS, BLOCKS[family], strict=True):
        for _ in range(count):
            # He et al. (arXiv:1502.01852): with this deviation a ReLU network keeps its activations' size
            deviation = (2 / (9 * channels)) ** 0.5
            weight = torch.randn(width, channels, 3, 3, generator=generator) * deviation
            convolutions.append((weight, torch.zeros(width)))
            channels = width
    return Weights(f"{family} ({weights})", BLOCKS[family], convolutions)


def _from_file(backbone: Backbone, path: Path) -> Weights:
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "is no regular file" if path.exists() else "does not exist"
        raise InputError(
            f"Expected --model.weights to be imagenet, random:SEED or a file, but {path} {what}"
            f"{nearest(str(path), ['imagenet'])}"
        )
    return from_state_dict(read_state_dict(path), f"{_family(backbone)}{path.name}", backbone)


def _family(backbone: Backbone) -> str:
    return "" if backbone == "auto" else f"{backbone} from "


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Reads a state dict from a `.safetensors` file or a torch checkpoint, without running any code in the file.

    Raises:
        InputError: If the file cannot be read or does not hold a state dict.
    """
    if path.suffix.lower() == ".safetensors":
        try:
            return safetensors.torch.load_file(path)
        except Exception as error:  # a damaged file may raise any error
            raise InputError(
                f"Expected {path} to be a state dict, but it cannot be read ({_reason(error)}); change --model.weights"
            ) from None
    state = read_torch(path, "model.weights")
    if not isinstance(state, Mapping) or not any(isinstance(value, Tensor) for value in state.values()):
        raise InputError(
            f"Expected {path} to hold a state dict, but it holds a {type(state).__name__}; change --model.weights"
        )
    return dict(state)


def read_torch(path: Path, key: str) -> Any:
    """Reads a file that torch has saved onto the CPU, without running any code in the file.

    Args:
        path: The file.
        key: The setting that named the file.

    Returns:
        Tensors, numbers and texts in lists, mappings and the like.

    Raises:
        InputError: If the file is missing, was not saved by torch or holds other objects.
    """
    try:
        if not path.is_file():  # reading a pipe would wait for a writer
            raise InputError(f"Expected --{key} to be a file, but {path} is none")
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                claimed = sum(entry.file_size for entry in archive.infolist())
            if claimed > path.stat().st_size:  # torch compresses nothing
                raise InputError(
                    f"Expected {path} to be a file that torch has saved, but it claims to hold {claimed} bytes in "
                    f"{path.stat().st_size}; change --{key}"
                )
        return torch.load(path, map_location="cpu", weights_only=True)
    except InputError:
        raise
    except Exception as error:  # a damaged file may raise any error
        if isinstance(error, pickle.UnpicklingError) and "GLOBAL" in str(error).upper():
            raise InputError(
                f"Expected {path} to hold tensors alone, but it holds other objects, whose code is never run; "
                + (f"save its state dict and give that as --{key}" if key == "model.weights" else f"change --{key}")
            ) from None
        raise InputError(
            f"Expected {path} to be a state dict or a checkpoint of torch's, but it cannot be read "
            f"({_reason(error)}); change --{key}"
        ) from None


def _reason(error: Exception) -> str:
    """Returns the message of an error as one short line."""
    if isinstance(error, pickle.UnpicklingError):
        return "it is not what torch writes"
    first = " ".join((str(error).splitlines() or [""])[0].split())
    return first[:120] if len(first) > 8 else type(error).__name__  # a KeyError's message is only the key


def _compact() -> Weights:
    if not COMPACT.exists():
        raise InputError(
            "The compact network is not part of this installation; choose --model.backbone vgg19 or vgg16, "
            "or give a file as --model.weights"
        )
    return from_state_dict(read_state_dict(COMPACT), "compact (bundled)", "compact")


def _imagenet(family: str) -> Weights:
    """Loads torchvision's weights from torch hub's cache, or downloads them into it."""
    enum = _ENUMS[family]
    cached = _cached(family)
    remedy = (
        f"give a file as --model.weights, put {cached.name} into {cached.parent} (TORCH_HOME moves it), "
        "or choose --model.backbone compact"
    )
    try:
        if not cached.is_file():
            _probe(enum.url)
        with _socket_timeout(30.0):
            state = enum.get_state_dict(progress=True, check_hash=True, weights_only=True, map_location="cpu")
    except (OSError, TimeoutError, RuntimeError, pickle.UnpicklingError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        host = urlparse(enum.url).hostname
        raise InputError(f"{family}'s weights cannot be had from {host} ({reason}); {remedy}") from None
    return from_state_dict(state, f"{family} (ImageNet)", family)  # type: ignore[arg-type]  # a key of BLOCKS


def _cached(family: str) -> Path:
    url: str = _ENUMS[family].url
    return Path(torch.hub.get_dir()) / "checkpoints" / os.path.basename(urlparse(url).path)


def _probe(url: str) -> None:
    """Raises an OSError within PATIENCE seconds if the host does not answer; name resolution has no timeout."""
    outcome: list[Exception | None] = []

    def ask() -> None:
        try:
            urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=PATIENCE).close()
            outcome.append(None)
        except Exception as error:  # raised below, in the caller's thread
            outcome.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    if not outcome:
        raise TimeoutError(f"no answer within {PATIENCE:.0f} s")
    if outcome[0] is not None:
        raise outcome[0]


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    """Ends a stalled download in an error; torch hub then removes the partial file."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
