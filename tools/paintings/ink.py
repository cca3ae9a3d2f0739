"""An ink painting: peaks in mist, pines and a boat, and a plum branch in blossom in front, on rice paper.

Ink lies in washes, which are dark where they end and grain in the paper, and in strokes of a brush of many hairs, each
with ink of its own: where a stroke is quick or dry, hairs leave the paper bare.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from paintings.canvas import Array, Canvas, color, mix, step

PAPER, INK, COOL = color(240, 229, 205), color(24, 23, 28), color(62, 78, 96)
CINNABAR, PLUM, OCHRE, LEAF = color(196, 50, 36), color(206, 66, 84), color(190, 140, 72), color(84, 108, 84)

Point = tuple[float, float]


class Sheet:
    """A sheet of paper that takes ink.

    Args:
        canvas: Where.
    """

    def __init__(self, canvas: Canvas) -> None:
        self.canvas = canvas
        self.grain = canvas.noise(0.0022, 2)
        self.pools = canvas.noise(0.045, 4)
        self.rough = canvas.noise(0.009, 4)
        fibres = canvas.noise((0.0012, 0.03), 2) + canvas.noise((0.028, 0.0013), 2)
        shade = 1 + 0.012 * fibres + 0.02 * canvas.noise(0.35, 3)
        self.colors = PAPER * shade[..., None]

    def take(self, much: Array, ink: Array) -> None:
        """Lets the paper take ink as much as (H, W) in [0, 1] says; what lies on what makes it darker."""
        much = np.clip(much, 0, 1)[..., None]
        self.colors = self.colors * (1 - much * (1 - ink / 255 * (0.98 + 0.02 * much)))

    def wash(self, below: Array, strength: float, fade: float, ink: Array) -> None:
        """Lays a wash along an edge.

        Args:
            below: How far each place lies within the wash, in shares of the width; below 0 outside.
            strength: How dark it is at the edge.
            fade: The depth over which it ends in mist.
            ink: Its colour.
        """
        depth = below + 0.0035 * self.rough
        body = np.exp(-np.maximum(depth, 0) / fade) * (0.82 + 0.2 * self.pools)
        edge = 0.28 * np.exp(-np.abs(depth - 0.0015) / 0.0022)
        self.take(strength * (body + edge) * step(-0.0015, 0.0012, depth) * (1 + 0.07 * self.grain), ink)

    def stroke(
        self, points: Sequence[Point], widths: Sequence[float], ink: Array, load: float = 0.85, dry: float = 0.3
    ) -> None:
        """Draws a stroke of the brush.

        Args:
            points: Where it goes, in shares of the width.
            widths: Half its width at each point.
            ink: The colour.
            load: How much ink is in the brush, in [0, 1].
            dry: How early hairs run out of it, in [0, 1].
        """
        c, n = self.canvas, self.canvas.unit
        t = np.linspace(0, 1, max(8, 5 * len(points)))
        knots = np.linspace(0, 1, len(points))
        x, y, w = (np.interp(t, knots, [float(v) for v in values]) for values in (*zip(*points, strict=True), widths))
        x, y, w = (ndimage.gaussian_filter1d(values, 1.6, mode="nearest") * n for values in (x, y, w))
        left, top = int(x.min() - w.max() - 4), int(y.min() - w.max() - 4)
        size = (int(x.max() + w.max() + 5) - left, int(y.max() + w.max() + 5) - top)
        tile = Image.new("L", size)
        draw = ImageDraw.Draw(tile)
        turn = np.arctan2(np.gradient(y), np.gradient(x))
        hairs = max(3, int(w.max() / 1.1))
        for side in np.linspace(-1, 1, hairs) + c.rng.normal(0, 0.5 / hairs, hairs):
            full = load * np.clip(c.rng.normal(0.88, 0.2), 0.25, 1.1) * (1.08 - 0.3 * side * side)
            end = 1 - dry * c.rng.random() * (0.4 + abs(side))
            px, py = x - left - np.sin(turn) * side * w, y - top + np.cos(turn) * side * w
            thick = max(1, round(2.6 * float(w.max()) / hairs))
            for i in range(len(t) - 1):
                skipped = dry * c.rng.random() > 0.62 and w[i] > 3
                if t[i] < end and not skipped:
                    tone = int(np.clip(255 * full * (1 - 0.28 * dry * t[i]), 0, 255))
                    draw.line((px[i], py[i], px[i + 1], py[i + 1]), fill=tone, width=thick)
        soft = ndimage.gaussian_filter(np.asarray(tile, float) / 255, 0.8)
        much = np.zeros(c.shape)
        rows, columns = slice(max(top, 0), top + size[1]), slice(max(left, 0), left + size[0])
        place = much[rows, columns]
        place += soft[max(-top, 0) :, max(-left, 0) :][: place.shape[0], : place.shape[1]]
        box = (rows, columns)
        taken = np.clip(place * (1 + 0.08 * self.grain[box] + 0.05 * self.pools[box]), 0, 1)[..., None]
        self.colors[box] = self.colors[box] * (1 - taken * (1 - ink / 255))

    def dab(self, x: float, y: float, radius: float, ink: Array, strength: float) -> None:
        """Sets a wet dab, whose colour has run to its rim."""
        c, n = self.canvas, self.canvas.unit
        r = int(2 * radius * n)
        rows = slice(max(int(y * n) - r, 0), int(y * n) + r)
        columns = slice(max(int(x * n) - r, 0), int(x * n) + r)
        far = np.hypot(c.x[rows, columns] - x, c.y[rows, columns] - y) / radius + 0.13 * self.rough[rows, columns]
        much = (
            strength * step(1.03, 0.93, far) * (0.5 + 0.5 * np.clip(far, 0, 1) ** 3 + 0.1 * self.pools[rows, columns])
        )
        taken = np.clip(much, 0, 1)[..., None]
        self.colors[rows, columns] = self.colors[rows, columns] * (1 - taken * (1 - ink / 255))


def peak(middle: float, top: float, wide: float, steep: float, turn: float) -> Callable[[Array], Array]:
    """Returns the height of a peak's edge at x, with shoulders and crags."""

    def edge(x: Array) -> Array:
        away = np.abs(x - middle) / wide
        crags = 0.014 * np.sin(31 * x + turn) + 0.008 * np.sin(67 * x + 2 * turn) + 0.022 * np.sin(12 * x + 3 * turn)
        return np.asarray(top + 0.5 * (1 - np.exp(-(away**steep))) + crags * np.minimum(1, 3 * away + 0.25))

    return edge


def rocks(
    sheet: Sheet, edge: Callable[[Array], Array], low: float, high: float, depth: float, count: int, load: float
) -> None:
    """Draws the folds of a mountain in dry strokes that fall from its edge, and moss dots along it."""
    rng = sheet.canvas.rng
    for _ in range(count):
        x = low + (high - low) * rng.random()
        down = depth * rng.random() ** 1.6
        slope = float(edge(np.array(x + 0.012)) - edge(np.array(x - 0.012))) / 0.024
        y = float(edge(np.array(x))) + 0.004 + down
        length, lean = 0.02 + 0.05 * rng.random(), 0.6 * np.tanh(slope) + 0.12 * rng.standard_normal()
        ends = [(x + lean * length * s + 0.003 * math.sin(5 * s + x), y + length * s) for s in (0.0, 0.35, 0.7, 1.0)]
        thick = (0.0016 + 0.0034 * rng.random()) * (1.2 - down / depth)
        mist = (1 - down / depth) ** 0.8
        sheet.stroke(ends, [thick, 1.3 * thick, thick, 0.2 * thick], INK, load * mist * (0.5 + 0.5 * rng.random()), 0.7)
    for _ in range(count // 2):
        x = low + (high - low) * rng.random()
        y = float(edge(np.array(x))) + 0.012 * rng.random() ** 2 - 0.001
        sheet.dab(x, y, 0.0016 + 0.0024 * rng.random(), INK, load * (0.5 + 0.5 * rng.random()))


def landscape(sheet: Sheet) -> None:
    """Paints the sun, the peaks from the farthest to the nearest, and the water."""
    c = sheet.canvas
    far = np.hypot(c.x - 0.33, c.y - 0.16)
    sheet.take(0.8 * step(0.058, 0.0555, far + 0.0012 * sheet.rough) * (0.85 + 0.1 * sheet.pools), CINNABAR)
    sheet.take(0.12 * step(0.3, 0.06, far), OCHRE)
    for middle, top, wide, steep, turn, strength, fade in (
        (0.5, 0.2, 0.12, 1.5, 0.3, 0.2, 0.12),
        (0.78, 0.16, 0.16, 1.3, 1.9, 0.24, 0.14),
        (0.3, 0.26, 0.13, 1.6, 4.2, 0.3, 0.1),
        (0.62, 0.24, 0.1, 1.7, 5.1, 0.4, 0.13),
    ):
        sheet.wash(c.y - peak(middle, top, wide, steep, turn)(c.x), strength, fade, COOL)
    near = peak(0.08, 0.1, 0.19, 1.6, 2.6)
    sheet.wash(c.y - near(c.x), 0.62, 0.2, mix(INK, COOL, 0.45))
    rocks(sheet, near, 0.0, 0.31, 0.24, 330, 0.8)
    cliff = peak(0.93, 0.3, 0.15, 1.8, 0.9)
    sheet.wash(c.y - cliff(c.x), 0.66, 0.15, mix(INK, COOL, 0.3))
    rocks(sheet, cliff, 0.74, 1.0, 0.18, 260, 0.85)
    for y, strength in ((0.47, 0.5), (0.53, 0.35)):
        mist = np.exp(-(((c.y - y - 0.012 * np.sin(7 * c.x + 9 * y)) / 0.035) ** 2)) * (0.8 + 0.25 * sheet.pools)
        sheet.colors = mix(sheet.colors, PAPER, np.clip(strength * mist, 0, 1))
    shore = peak(0.13, 0.535, 0.42, 1.7, 1.2)
    sheet.wash(np.minimum(c.y - shore(c.x), 0.66 - c.y + 0.02 * np.sin(9 * c.x)), 0.7, 0.06, mix(INK, LEAF, 0.3))
    rocks(sheet, shore, 0.0, 0.4, 0.06, 150, 0.95)
    rng = c.rng
    for _ in range(70):
        x, y = rng.random(), 0.585 + 0.19 * rng.random()
        length = (0.03 + 0.09 * rng.random()) * (0.5 + 3 * (y - 0.55))
        thin = 0.0008 + 0.0012 * rng.random()
        sheet.stroke(
            [(x, y), (x + length / 2, y + 0.002), (x + length, y)], [thin, 2 * thin, 0.2 * thin], COOL, 0.34, 0.5
        )


def people(sheet: Sheet) -> None:
    """Paints a boat with a fisher, pines on the shore, and birds."""
    x, y = 0.5, 0.62
    sheet.stroke(
        [(x - 0.07, y - 0.012), (x - 0.03, y + 0.006), (x + 0.03, y + 0.006), (x + 0.075, y - 0.016)],
        [0.001, 0.0055, 0.0055, 0.001],
        INK,
        0.95,
        0.1,
    )
    sheet.stroke([(x + 0.022, y - 0.05), (x + 0.026, y - 0.02), (x + 0.022, y)], [0.003, 0.008, 0.0075], INK, 0.75, 0.2)
    sheet.stroke(
        [(x + 0.006, y - 0.047), (x + 0.023, y - 0.058), (x + 0.04, y - 0.047)],
        [0.0005, 0.0046, 0.0005],
        OCHRE,
        0.95,
        0.1,
    )
    sheet.stroke(
        [(x + 0.026, y - 0.034), (x - 0.05, y - 0.085), (x - 0.075, y - 0.08)], [0.001, 0.0007, 0.0004], INK, 0.9, 0.0
    )
    for px, py, size in ((0.19, 0.562, 0.105), (0.255, 0.578, 0.08), (0.07, 0.556, 0.09)):
        sheet.stroke(
            [(px, py), (px + 0.012, py - 0.5 * size), (px - 0.006, py - size)], [0.006, 0.004, 0.002], INK, 0.95, 0.4
        )
        for i in range(9):
            t, side = 0.3 + 0.7 * i / 8, (-1) ** i
            bx, by = px + 0.006 + 0.03 * side * (1.2 - t), py - t * size
            for lean in (-0.016, -0.006, 0.006, 0.016):
                sheet.stroke([(bx + lean, by + 0.003), (bx + 0.3 * lean, by - 0.007)], [0.0009, 0.0022], INK, 0.7, 0.3)
    for bx, by, size in ((0.45, 0.12, 0.016), (0.48, 0.1, 0.012), (0.425, 0.095, 0.01), (0.515, 0.135, 0.009)):
        sheet.stroke(
            [(bx - size, by - 0.4 * size), (bx, by), (bx + size, by - 0.5 * size)],
            [0.0004, 0.0019, 0.0004],
            INK,
            0.85,
            0.0,
        )


def branch(sheet: Sheet) -> None:
    """Paints the plum branch: quick dry wood, and blossoms of five wet dabs."""
    rng = sheet.canvas.rng
    wood: list[tuple[list[Point], list[float]]] = [
        (
            [(1.03, 0.74), (0.93, 0.66), (0.86, 0.63), (0.77, 0.53), (0.7, 0.5), (0.61, 0.41)],
            [0.027, 0.021, 0.016, 0.011, 0.007, 0.002],
        ),
        ([(0.87, 0.635), (0.8, 0.655), (0.73, 0.64), (0.66, 0.66)], [0.012, 0.008, 0.005, 0.001]),
        ([(0.78, 0.54), (0.775, 0.46), (0.72, 0.385), (0.715, 0.33)], [0.009, 0.006, 0.004, 0.001]),
        ([(0.92, 0.65), (0.9, 0.56), (0.84, 0.47), (0.845, 0.4)], [0.012, 0.007, 0.005, 0.001]),
        ([(0.7, 0.5), (0.64, 0.505), (0.59, 0.49)], [0.005, 0.003, 0.001]),
        ([(0.97, 0.69), (0.88, 0.735), (0.8, 0.74)], [0.012, 0.006, 0.001]),
    ]
    for points, widths in wood:
        sheet.stroke(points, widths, INK, 0.98, 0.42)
        sheet.stroke([(x + 0.004, y - 0.003) for x, y in points], [0.45 * w for w in widths], INK, 0.6, 0.9)
    for points, _ in wood:
        for (x0, y0), (x1, y1) in pairwise(points[1:]):
            for _ in range(4):
                t = rng.random()
                x, y = (
                    x0 + (x1 - x0) * t + 0.014 * rng.standard_normal(),
                    y0 + (y1 - y0) * t + 0.014 * rng.standard_normal(),
                )
                if x < 0.97:
                    blossom(sheet, x, y, 0.0085 + 0.006 * rng.random())


def blossom(sheet: Sheet, x: float, y: float, radius: float) -> None:
    """Paints one blossom, open or as a bud."""
    rng = sheet.canvas.rng
    turn, open_ = rng.random() * 7, rng.random() < 0.72
    for i in range(5 if open_ else 2):
        a = turn + i * 2 * math.pi / 5
        sheet.dab(
            x + 0.85 * radius * math.cos(a),
            y + 0.75 * radius * math.sin(a),
            0.62 * radius,
            PLUM,
            0.5 + 0.4 * rng.random(),
        )
    if not open_:
        sheet.dab(x, y, 0.3 * radius, CINNABAR, 0.9)
        return
    for i in range(9):
        a = turn + i * 0.7 + 0.2 * rng.standard_normal()
        px, py = x + 0.75 * radius * math.cos(a), y + 0.65 * radius * math.sin(a)
        sheet.stroke([(x, y), (px, py)], [0.0006, 0.0006], INK, 0.7, 0.0)
        sheet.dab(px, py, 0.0013, INK, 0.9)


def seal(sheet: Sheet) -> None:
    """Sets a red seal with three strokes of no script."""
    c = sheet.canvas
    x, y, a = 0.055, 0.715, 0.021
    inside = np.maximum(np.abs(c.x - x), np.abs(c.y - y)) < a + 0.0006 * sheet.rough
    lines = np.abs(((c.x - x) / a * 1.7) % 1 - 0.5) < 0.13
    lines |= (np.abs(c.y - y - 0.3 * a) < 0.09 * a) | (np.abs(c.y - y + 0.45 * a) < 0.09 * a)
    cut = lines & (np.maximum(np.abs(c.x - x), np.abs(c.y - y)) < 0.78 * a)
    sheet.take(np.where(inside & ~cut, 0.92 + 0.08 * sheet.grain, 0.0), CINNABAR)


def paint(canvas: Canvas) -> Image.Image:
    """Paints the picture."""
    sheet = Sheet(canvas)
    for part in (landscape, people, branch, seal):
        part(sheet)
    return canvas.picture(sheet.colors)
