"""The terms of an objective by their settings."""

from __future__ import annotations

from collections.abc import Mapping

from nst.losses.distance import Normalization
from nst.losses.functional import Norm
from nst.losses.objective import Term
from nst.losses.terms.content import ContentTerm
from nst.losses.terms.correspondence import CorrespondenceTerm, Turns
from nst.losses.terms.pixels import SEAM, Seam, TotalVariation
from nst.losses.terms.structure import StructureTerm
from nst.losses.terms.style import StyleTerm


def standard_terms(
    content_layers: Mapping[str, float],
    style_layers: Mapping[str, float],
    content_weight: float = 1.0,
    style_weight: float = 10.0,
    tv_weight: float = 0.0,
    normalization: Normalization = "relative",
    tv_norm: Norm = "l1",
    style_distance: str = "frobenius",
    wrap: bool = False,
    correspondence_layers: Mapping[str, float] | None = None,
    correspondence_weight: float = 0.0,
    correspondence_empty: float = 0.02,
    correspondence_cell: int = 4,
    correspondence_turns: Turns = "quarter",
    structure_layers: Mapping[str, float] | None = None,
    structure_weight: float = 0.0,
) -> list[Term]:
    """Returns the terms of the paper, and of its successors, by their settings.

    Args:
        content_layers: Weight of each content layer; the weights are scaled to sum to 1.
        style_layers: Weight of each style layer; the weights are scaled to sum to 1.
        content_weight: Weight of the content term.
        style_weight: Weight of the style term.
        tv_weight: Weight of the total variation.
        normalization: `relative` or `gatys`.
        tv_norm: `l1` or `l2`.
        style_distance: The name of a style distance.
        wrap: Whether the picture tiles: opposite borders are then neighbours in the total variation, and a Seam is
            added.
        correspondence_layers: Weight of each layer of the correspondence; the weights are scaled to sum to 1.
        correspondence_weight: Weight of the correspondence.
        correspondence_empty: See CorrespondenceTerm.
        correspondence_cell: See CorrespondenceTerm.
        correspondence_turns: See CorrespondenceTerm.
        structure_layers: Weight of each layer of the structure term; the weights are scaled to sum to 1.
        structure_weight: Weight of the structure term.

    Raises:
        InputError: If a weight is negative or not finite, or a name is unknown.
    """
    terms: list[Term] = [
        ContentTerm(content_layers, content_weight, normalization),
        StyleTerm(style_layers, style_weight, normalization, style_distance),
        CorrespondenceTerm(
            correspondence_layers or {},
            correspondence_weight,
            correspondence_empty,
            correspondence_cell,
            correspondence_turns,
        ),
        StructureTerm(structure_layers or {}, structure_weight),
        TotalVariation(tv_weight, tv_norm, wrap),
    ]
    if wrap:
        terms.append(Seam(SEAM * sum(weight for term in terms for weight in term.weights.values())))
    return terms
