"""One fixed judge of results, in plain code that shares nothing with the package's losses.

All figures are taken at the result's size with a whole VGG16, the painting scaled to the same longer side, or at its
own size if that is smaller:

- gram: |G - A|² / |A|² over Gram matrices, mean over relu1_1 ... relu5_1
- w2: (|m - m_t|² + tr S + tr T - 2 tr (T^½ S T^½)^½) / tr T, mean over the same layers
- look: the same, weighted 256:64:16:4:1 from relu1_1 to relu5_1
- content: |F - P|² / |P|² at relu4_2
- structure: mean absolute difference of the photograph's and the result's self-similarities, centred cosines between
  the places of a 32×32 grid at relu4_1
- edges: correlation of the gradient magnitudes of luminance, Gaussian of 1 pixel, of the result and the photograph
- tv: mean absolute difference of neighbouring values over the painting's
- nyquist: power of luminance above 0.4 cycles per pixel, along rows and along columns, over the painting's
  (Welch's method, windows of 64 pixels)
- coverage: share of the painting that the result uses: the intersection of the histograms of 64 clusters of the
  painting's feature vectors at relu3_1

Where two configs' results were compared by eye, edges agreed with the eye, and content and structure often did not.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import safetensors.torch
import torch
import torch.nn.functional as nnf
import torchvision
from PIL import Image
from scipy.cluster.vq import kmeans2
from scipy.ndimage import gaussian_gradient_magnitude
from scipy.signal import welch
from scipy.spatial import cKDTree
from torch import Tensor

TAPS = {1: "relu1_1", 6: "relu2_1", 11: "relu3_1", 20: "relu4_2", 18: "relu4_1", 25: "relu5_1"}
STYLE = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
LOOK = (256, 64, 16, 4, 1)
GRID = 32
CLUSTERS = 64
WINDOW = 64
FIGURES = ("look", "w2", "gram", "content", "structure", "edges", "tv", "nyquist", "coverage")


class Judge:
    """Measures results with the VGG16 of a torchvision state dict."""

    def __init__(self, weights: Path) -> None:
        state = safetensors.torch.load_file(weights) if weights.suffix == ".safetensors" else torch.load(weights)
        self.network = torchvision.models.vgg16(weights=None).features[:26]
        self.network.load_state_dict(
            {k.removeprefix("features."): v.float() for k, v in state.items() if _within(k)}, strict=True
        )
        for layer in self.network:
            if isinstance(layer, torch.nn.ReLU):
                layer.inplace = False

    @torch.no_grad()
    def __call__(self, result: Path, content: Path, style: Path) -> dict[str, float]:
        """Returns the figures of one result."""
        picture = read(result)
        photograph = read(content, (picture.shape[3], picture.shape[2]))
        painting = painting_for(picture, style)
        x, p, a = (self._features(y) for y in (picture, photograph, painting))
        height, width = (side // 8 for side in picture.shape[2:])
        grams = [_gram(x[layer], a[layer]) for layer in STYLE]
        w2 = [wasserstein(x[layer], a[layer]) for layer in STYLE]
        error = (x["relu4_2"] - p["relu4_2"]).square().sum() / p["relu4_2"].square().sum()
        return {
            "look": sum(w * d for w, d in zip(LOOK, w2, strict=True)) / sum(LOOK),
            "w2": sum(w2) / len(w2),
            "gram": sum(grams) / len(grams),
            "content": float(error),
            "structure": structure(*(y["relu4_1"].view(-1, height, width) for y in (x, p))),
            "edges": _edges(picture, photograph),
            "tv": _variation(picture) / _variation(painting),
            "nyquist": nyquist(picture) / nyquist(painting),
            "coverage": _coverage(x["relu3_1"], a["relu3_1"]),
        }

    def _features(self, picture: Tensor) -> dict[str, Tensor]:
        mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        x, found = (picture - mean.view(1, 3, 1, 1)) / deviation.view(1, 3, 1, 1), {}
        for index, layer in enumerate(self.network):
            x = layer(x)
            if index in TAPS:
                found[TAPS[index]] = x[0].flatten(1).double()
        return found


def _within(key: str) -> bool:
    parts = key.removeprefix("features.").split(".")
    return parts[0].isdigit() and int(parts[0]) < 26


def read(path: Path, size: tuple[int, int] | None = None) -> Tensor:
    """Returns a picture, (1, 3, H, W), in [0, 1], resampled to a width and height where they are given."""
    with Image.open(path) as image:
        rgb = image.convert("RGB")
        rgb = rgb if size is None or rgb.size == size else rgb.resize(size, Image.Resampling.LANCZOS)
        return torch.from_numpy(np.asarray(rgb, np.float32) / 255).permute(2, 0, 1)[None]


def painting_for(picture: Tensor, style: Path) -> Tensor:
    """Returns a painting whose longer side is a picture's; one that is enlarged has no fine strokes, and is not."""
    with Image.open(style) as image:
        scale = min(1, max(picture.shape[2:]) / max(image.size))
        return read(style, (round(image.width * scale), round(image.height * scale)))


def _gram(x: Tensor, a: Tensor) -> float:
    g, t = x @ x.T / x.shape[1], a @ a.T / a.shape[1]
    return float((g - t).square().sum() / t.square().sum())


def wasserstein(x: Tensor, a: Tensor) -> float:
    """Returns the squared Wasserstein distance of two sets of vectors', (C, N), Gaussians over the second's trace."""
    s, t = torch.cov(x, correction=0), torch.cov(a, correction=0)
    values, vectors = torch.linalg.eigh(t)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    cross = torch.linalg.eigvalsh(root @ s @ root).clamp(min=0).sqrt().sum()
    shift = (x.mean(1) - a.mean(1)).square().sum()
    return float((shift + s.trace() + t.trace() - 2 * cross) / t.trace())


def _variation(picture: Tensor) -> float:
    return float(picture.diff(dim=2).abs().mean() + picture.diff(dim=3).abs().mean())


def structure(x: Tensor, p: Tensor) -> float:
    """Returns the mean absolute difference of two feature maps', (C, H, W), similarities between a grid's places."""
    similar = []
    for features in (x, p):
        places = nnf.interpolate(features[None], (GRID, GRID), mode="area")[0].flatten(1).T
        places = nnf.normalize(places - places.mean(0))
        similar.append(places @ places.T)
    return float((similar[0] - similar[1]).abs().mean())


def _luminance(picture: Tensor) -> np.ndarray:
    return np.tensordot((0.299, 0.587, 0.114), picture[0].double().numpy(), 1)


def _edges(picture: Tensor, photograph: Tensor) -> float:
    both = [gaussian_gradient_magnitude(_luminance(x), 1.0).ravel() for x in (picture, photograph)]
    return float(np.corrcoef(*both)[0, 1])


def nyquist(picture: Tensor) -> float:
    """Returns the power of a picture's luminance, (1, 3, H, W), above 0.4 cycles per pixel, along rows and columns.

    Welch's method: the mean over many windows, so that a subject in the middle weighs no more than the rest.
    """
    luminance = _luminance(picture)
    total = 0.0
    for axis, side in enumerate(luminance.shape):
        frequencies, density = welch(luminance, axis=axis, nperseg=min(WINDOW, side))
        high = np.moveaxis(density, axis, 0)[frequencies > 0.4]
        total += float(high.mean(1).sum() * frequencies[1])
    return total


def _coverage(x: Tensor, a: Tensor) -> float:
    centres, _ = kmeans2(a.T.float().numpy(), CLUSTERS, minit="++", seed=0)
    used = [np.bincount(cKDTree(centres).query(y.T.float().numpy())[1], minlength=CLUSTERS) for y in (x, a)]
    return float(np.minimum(*(count / count.sum() for count in used)).sum())
