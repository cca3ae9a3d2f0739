"""The distance of the channels' histograms, by their cumulative distributions."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from nst.losses import functional as F
from nst.losses.distance import StyleDistance
from nst.losses.statistics import Pooled

EDGES = torch.linspace(-3, 8, 45).sinh()
"""The values, from -10 to 1490, at which activations are counted; 0 is an edge, and edges are closest around it."""


@lru_cache(maxsize=4)
def _edges(dtype: torch.dtype, device: torch.device) -> Tensor:
    """Returns the edges on a device: a device that is given them at each step is waited for."""
    return EDGES.to(device, dtype)


@dataclass(frozen=True)
class Histograms(Pooled):
    """How many positions of a channel lie at each edge, (C, K); those between two edges are shared by them."""

    counts: Tensor


class Histogram(StyleDistance[Histograms]):
    """The channels' histograms (Risser et al., arXiv:1701.08893), by Cramér's distance of their distributions."""

    name = "histogram"

    def statistics(self, features: Tensor, guide: Tensor | None = None) -> Histograms:
        x = features.to(torch.promote_types(features.dtype, torch.float32)).transpose(0, 1).flatten(1).contiguous()
        weights = (torch.ones_like(features[:, :1]) if guide is None else guide).to(x).flatten()
        edges = _edges(x.dtype, x.device)
        upper = torch.bucketize(x.detach(), edges).clamp(1, len(edges) - 1)
        share = ((x - edges[upper - 1]) / (edges[upper] - edges[upper - 1])).clamp(0, 1) * weights
        counts = x.new_zeros(len(x), len(edges)).scatter_add(1, upper, share).scatter_add(1, upper - 1, weights - share)
        return Histograms(weights.sum(), counts)

    def distance(self, statistics: Histograms, prepared: Histograms) -> Tensor:
        edges = _edges(prepared.counts.dtype, prepared.counts.device)
        below, wanted = ((x.counts.cumsum(1) / x.positions)[:, :-1] for x in (statistics, prepared))
        zero = (edges[:-1] >= 0).to(edges)  # the distribution of a channel that is never active
        difference, energy = ((y.square() * edges.diff()).sum() for y in (below - wanted, wanted - zero))
        return difference / F.scale(energy)
