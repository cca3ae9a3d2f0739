"""Optical flow between frames, how far it can be trusted, and pictures that are warped by it.

A flow, (1, 2, H, W), says for each pixel of a frame how far to the right and down it lies in another one, in pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from pathlib import Path
from urllib.error import URLError

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import convolve1d, map_coordinates
from scipy.spatial import cKDTree
from torch import Tensor
from torch.nn.functional import interpolate, pad

from nst.errors import InputError, one_line, shown

Flow = Callable[[Tensor, Tensor, int, int], Tensor]
"""Computes the flow from one frame, (1, 3, H, W) in [0, 1], to another, given the frames' numbers in the clip."""

SMALLEST_DIS, SMALLEST_RAFT, STRIDE_RAFT = 32, 128, 8
"""Sides of the smallest frames that the methods take, and what RAFT's sides are multiples of."""

NEAR, ALIKE = 0.05, 0.1
"""Distances, in longer sides of a frame and in values, that count the same in the search for pixels alike."""

LIKE, MOST_LIKE = 8, 50_000
"""How many pixels alike a pixel takes its colour from, and about how many are searched."""

DAMPING = 0.003
"""How much fainter the finest structures of a result are where the next frame follows from it. On a street that stands
still for 16 frames, their power went from 1 to 1.4 without it and at the full learning rate."""

FLO = 202021.25
"""The number with which a .flo file begins (Middlebury's format)."""


def chosen(name: str) -> Flow:
    """Returns the method of a name.

    Args:
        name: `dis`, `raft`, or a folder of `backward_2_1.flo`, from the second frame to the first, and
            `forward_1_2.flo`, as artistic-videos names them.

    Raises:
        InputError: If there is no such method or folder, or the weights of RAFT cannot be had.
    """
    if name == "dis":
        return dis
    if name == "raft":
        _raft_network()
        return raft
    if Path(name).is_dir():
        return FlowFiles(Path(name))
    raise InputError(f"Expected --video.flow to be dis, raft or a folder of .flo files, but got {shown(name)}")


def dis(source: Tensor, target: Tensor, first: int = 0, second: int = 0) -> Tensor:
    """Computes a flow by dense inverse search (Kroeger et al., arXiv:1603.03590), OpenCV's."""
    return _searched(source, target)


@lru_cache(maxsize=2)  # a cut is looked for by the flow, there and back, that a frame then follows
def _searched(source: Tensor, target: Tensor) -> Tensor:
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    height, width = source.shape[2:]
    missing = max(0, SMALLEST_DIS - height), max(0, SMALLEST_DIS - width)
    grays = [np.pad(_gray(x), ((0, missing[0]), (0, missing[1])), mode="edge") for x in (source, target)]
    found = search.calc(grays[0], grays[1], np.zeros((*grays[0].shape, 2), np.float32))
    return torch.from_numpy(found[:height, :width].copy()).permute(2, 0, 1)[None]


def _gray(frame: Tensor) -> NDArray[np.uint8]:
    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    gray: NDArray[np.uint8] = ((frame * weights).sum(1)[0] * 255).round().to(torch.uint8).numpy()
    return gray


def raft(source: Tensor, target: Tensor, first: int = 0, second: int = 0) -> Tensor:
    """Computes a flow by RAFT (Teed and Deng, arXiv:2003.12039), torchvision's."""
    height, width = source.shape[2:]
    sides = [max(SMALLEST_RAFT, -(-side // STRIDE_RAFT) * STRIDE_RAFT) for side in (height, width)]
    pairs = [pad(2 * x - 1, (0, sides[1] - width, 0, sides[0] - height), mode="replicate") for x in (source, target)]
    with torch.no_grad():
        found: Tensor = _raft_network()(*pairs)[-1]
    return found[:, :, :height, :width]


@cache
def _raft_network() -> torch.nn.Module:
    from torchvision.models.optical_flow import Raft_Large_Weights, raft_large

    try:
        network: torch.nn.Module = raft_large(weights=Raft_Large_Weights.DEFAULT).eval()
        return network
    except (URLError, OSError, RuntimeError) as error:
        raise InputError(
            f"Expected the weights of --video.flow raft in torch hub's cache or to download, but neither works "
            f"({one_line(error)}); take --video.flow dis"
        ) from None


class FlowFiles:
    """Flows that something else has computed, read from a folder; frames count from 1 in the files' names.

    Args:
        folder: The folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, source: Tensor, target: Tensor, first: int, second: int) -> Tensor:
        way = "backward" if second < first else "forward"
        path = self.folder / f"{way}_{first + 1}_{second + 1}.flo"
        found = read_flo(path)
        height, width = source.shape[2:]
        scale = torch.tensor([width / found.shape[3], height / found.shape[2]]).view(1, 2, 1, 1)
        return scale * interpolate(found, (height, width), mode="bilinear", align_corners=False)


def read_flo(path: Path) -> Tensor:
    """Reads a flow, (1, 2, H, W) in pixels, from a .flo file.

    Raises:
        InputError: If it is missing or no whole .flo file.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"Expected --video.flow to have the file {shown(path.name)}, but it cannot be read ({error.strerror}); "
            "compute it or give --video.reach 1"
        ) from None
    head = np.frombuffer(data[:12].ljust(12, b"\0"), "<i4")
    width, height = int(head[1]), int(head[2])
    if np.frombuffer(head[:1].tobytes(), "<f4")[0] != FLO or min(width, height) < 1:
        raise InputError(f"Expected --video.flow to have .flo files, but {shown(path)} is none; compute it again")
    if len(data) != 12 + 8 * width * height:
        raise InputError(f"Expected --video.flow to have whole .flo files, but {shown(path)} is cut; compute it again")
    values = np.frombuffer(data, "<f4", offset=12).reshape(height, width, 2)
    # the format's word for an unknown flow is a number above 1e9: it leads out of the picture, where nothing is trusted
    return torch.from_numpy(np.nan_to_num(values, nan=1e10, posinf=1e10)).permute(2, 0, 1)[None].clamp(-1e6, 1e6)


def warp(picture: Tensor, way: Tensor, order: int = 5) -> Tensor:
    """Brings a picture to the place of another one.

    Args:
        picture: (1, C, H, W).
        way: The flow from the other one to the picture.
        order: Order of the spline between pixels: 5 keeps a picture sharp over many frames, 1 is bilinear.

    Returns:
        (1, C, H, W); what lies outside of the picture has its border's values.
    """
    x, y = (place[0].numpy() for place in _places(way))
    planes = [map_coordinates(plane.numpy(), [y, x], order=order, mode="nearest") for plane in picture[0]]
    return torch.from_numpy(np.stack(planes))[None]


def damped(picture: Tensor) -> Tensor:
    """Returns a picture, (1, C, H, W), whose finest structures are a little fainter, along rows and along columns.

    Networks hardly see structures of two pixels, so that they grow from frame to frame where nothing moves. A frequency
    w is multiplied by 1 - DAMPING (1 - cos w)³: 0.98 for two pixels, 0.997 for four.
    """
    one = np.array([-0.5, 1.0, -0.5])
    weights = -DAMPING * np.convolve(np.convolve(one, one), one)
    weights[3] += 1
    planes = [
        convolve1d(convolve1d(x.numpy(), weights, 0, mode="nearest"), weights, 1, mode="nearest") for x in picture[0]
    ]
    return torch.from_numpy(np.stack(planes))[None].clamp(0, 1)


def _places(way: Tensor) -> tuple[Tensor, Tensor]:
    """Returns where each pixel comes to lie, (1, H, W) each: the column and the row."""
    height, width = way.shape[2:]
    return torch.arange(width) + way[:, 0], torch.arange(height)[:, None] + way[:, 1]


def trust(back: Tensor, forth: Tensor) -> Tensor:
    """Returns 1 where a pixel is seen in the earlier frame too, else 0 (arXiv:1604.08610, section 4.2).

    Args:
        back: The flow from the frame to the earlier one.
        forth: The flow from the earlier frame to this one.

    Returns:
        (1, 1, H, W), 0 or 1.
    """
    there = warp(forth, back, order=1)
    # disocclusion: there and back again is somewhere else, |w~ + w^|^2 > 0.01 (|w~|^2 + |w^|^2) + 0.5
    lost = _squared(there + back) > 0.01 * (_squared(there) + _squared(back)) + 0.5
    # the border of a motion, where flows are wrong: |grad u^|^2 + |grad v^|^2 > 0.01 |w^|^2 + 0.002
    down, right = torch.gradient(back, dim=(2, 3))
    border = _squared(down) + _squared(right) > 0.01 * _squared(back) + 0.002
    x, y = _places(back)
    outside = (x < 0) | (x > back.shape[3] - 1) | (y < 0) | (y > back.shape[2] - 1)
    return (~(lost | border | outside[:, None])).float()


def _squared(vectors: Tensor) -> Tensor:
    return vectors.square().sum(1, keepdim=True)


def filled(clip: Tensor, warped: Tensor, seen: Tensor) -> Tensor:
    """Fills what comes into sight: the photograph's pixels, in the colours that their like got nearby.

    A pixel's like are the pixels that were seen before and are nearest to it in place and colour. The pixel gets the
    photograph's value plus the mean of what was added to them. From the photograph as it is, few steps do not lead a
    rim of a pixel's width to the painting's colours.

    Args:
        clip: The frame, (1, 3, H, W) in [0, 1].
        warped: The result before it, warped to it.
        seen: 1 where this can be trusted, else 0, (1, 1, H, W).

    Returns:
        (1, 3, H, W) in [0, 1]: `warped` where it is seen.
    """
    height, width = clip.shape[2:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    places = torch.cat([torch.stack([x, y])[None] / (NEAR * max(height, width)), clip / ALIKE], dim=1)[0].flatten(1).T
    known, wanted = (seen[0, 0].flatten() > 0).nonzero()[:, 0], (seen[0, 0].flatten() == 0).nonzero()[:, 0]
    if not len(known) or not len(wanted):
        return clip.clone() if not len(known) else warped.clone()
    known = known[:: max(1, len(known) // MOST_LIKE)]
    _, found = cKDTree(places[known].numpy()).query(places[wanted].numpy(), k=range(1, 1 + min(LIKE, len(known))))
    colours, painted = clip[0].flatten(1), warped[0].flatten(1).clone()
    added = (painted - colours)[:, known[torch.from_numpy(found)]].mean(2)
    painted[:, wanted] = (colours[:, wanted] + added).clamp(0, 1)
    return painted.view_as(warped)


def long_term(trusts: Sequence[Tensor]) -> list[Tensor]:
    """Leaves to each earlier frame the pixels that no nearer one sees (arXiv:1604.08610, section 4.3).

    Args:
        trusts: Trust of earlier frames, (1, 1, H, W) each, the nearest first.
    """
    left: list[Tensor] = []
    for number, each in enumerate(trusts):
        nearer = torch.stack(list(trusts[:number])).sum(0) if number else torch.zeros_like(each)
        left.append((each - nearer).clamp(min=0))
    return left
