"""A woodcut: a snowy peak, a red sun and a sea, in a few flat inks under a black block of carved lines.

The carved lines are level lines of a phase, as wide as the place is dark, and the phase follows the form: rays about a
sun, falls on the mountain, crests on the sea. Each ink is printed from a plank, whose grain shows, and a little aside.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from paintings.canvas import Array, Canvas, Mask, borders, color, mix, ramp, step

INK, PAPER = color(24, 24, 36), color(242, 229, 200)
RED, OCHRE, ROSE = color(204, 62, 36), color(230, 168, 74), color(236, 196, 150)
SKY, BLUE, DEEP, TEAL = color(142, 182, 180), color(52, 104, 150), color(22, 52, 104), color(40, 112, 108)
LEAF, MOSS, SNOW = color(40, 84, 56), color(124, 140, 66), color(246, 240, 224)
SUN, RADIUS, PEAK = (0.715, 0.2), 0.105, (0.4, 0.115)


class Block:
    """The inks and the black lines, printed region over region.

    Args:
        canvas: Where.
    """

    def __init__(self, canvas: Canvas) -> None:
        self.canvas = canvas
        self.wobble = canvas.noise(0.02) * 0.5 + canvas.noise(0.11) * 0.5
        self.breaks = canvas.noise((0.012, 0.05), 2)
        self.inks = np.broadcast_to(PAPER, (*canvas.shape, 3)).copy()
        self.black = np.zeros(canvas.shape)
        self.labels = np.zeros(canvas.shape, np.int64)

    def print(self, where: Mask, ink: Array, phase: Array, dark: Array, outline: bool = True) -> None:
        """Prints a region.

        Args:
            where: The region, (H, W).
            ink: Its colour, (3,) or (H, W, 3).
            phase: Rises by 1 from one carved line to the next, (H, W).
            dark: The share of black lines, in [0, 1], (H, W).
            outline: Whether a black line goes around it.
        """
        saw = np.abs((phase + 0.11 * self.wobble) % 1 - 0.5) * 2
        width = np.clip(dark + 0.06 * self.breaks, 0, 1)
        lines = step(1.0, 0.86, saw + 1 - width) * (width > 0.07)
        self.inks = np.where(where[..., None], ink, self.inks)
        self.black = np.where(where, lines, self.black)
        if outline:
            self.labels[where] = self.labels.max() + 1

    def finish(self) -> Array:
        """Returns the printed colours, (H, W, 3)."""
        canvas = self.canvas
        edge = step(1.0, 0.0, (borders(self.labels) / canvas.unit - 0.0021 - 0.0006 * self.wobble) / 0.0008)
        grain = canvas.noise((0.0022, 0.35), 2) * 0.7 + 0.5 * canvas.noise((0.006, 0.5), 2)
        worn = np.clip(0.9 - 0.055 * grain + 0.03 * canvas.noise(0.0016, 1), 0.62, 1)
        shifted = ndimage.shift(self.inks, (0.0014 * canvas.unit, -0.0018 * canvas.unit, 0), order=0, mode="nearest")
        printed = mix(np.broadcast_to(PAPER, shifted.shape), shifted, worn)
        black = np.maximum(self.black, edge) * np.clip(0.97 - 0.035 * np.maximum(grain, 0) ** 2, 0.7, 1)
        return mix(printed, np.broadcast_to(INK, printed.shape), black)


def sky(block: Block) -> None:
    """A sky that is red at the horizon, with rays about a sun, and clouds."""
    c = block.canvas
    dx, dy = c.x - SUN[0], c.y - SUN[1]
    far, angle = np.hypot(dx, dy), np.arctan2(dy, dx)
    ground = ramp([SKY, SKY, ROSE, OCHRE, RED], (c.y + 0.016 * block.wobble) / 0.5)
    rays = np.where(far < 0.3, angle * 96 / (2 * math.pi), angle * 192 / (2 * math.pi))
    dark = 0.46 * step(0.62, 0.12, far) * (0.75 + 0.25 * np.sin(7 * angle)) + 0.03
    block.print(np.ones(c.shape, bool), ground, rays, dark, outline=False)
    halo = step(RADIUS + 0.03, RADIUS + 0.024, far) > 0.5
    block.print(halo, PAPER, rays, np.zeros(c.shape), outline=False)
    block.print(far < RADIUS, RED, (far / RADIUS) * 7, 0.1 + 0.5 * step(-0.02, 0.11, dy - 0.4 * dx))
    for x, y, length, turn in (
        (0.12, 0.075, 0.2, 0.4),
        (0.86, 0.105, 0.17, 1.7),
        (0.2, 0.2, 0.15, 3.0),
        (0.9, 0.3, 0.16, 5),
    ):
        shape = np.zeros(c.shape, bool)
        for i in range(7):
            t = i / 6 - 0.5
            r = 0.034 * (1 - 2.6 * t * t) * (0.85 + 0.25 * math.sin(2.3 * i + turn))
            shape |= np.hypot((c.x - x - t * length) * 0.8, c.y - y + 0.5 * r) < r
        flat = np.abs(c.x - x) < 0.62 * length
        shape |= flat & (np.abs(c.y - y) < 0.009 * np.sqrt(np.clip(1 - ((c.x - x) / (0.62 * length)) ** 2, 0, 1)))
        shape &= c.y < y + 0.009
        block.print(shape, PAPER, (c.y - y) / 0.0085 + 0.5 * np.sin(22 * c.x), 0.55 * step(-0.022, 0.02, c.y - y))


def mountain(block: Block) -> None:
    """A peak whose flanks fall ever flatter, with snow on it and the shade on its left."""
    c = block.canvas
    away = np.abs(c.x - PEAK[0])
    top = PEAK[1] + 0.42 * (1 - np.exp(-away / 0.2)) - 0.012 * (away < 0.035) + 0.004 * block.wobble
    fall = (c.y - top) / 0.3
    turn = np.arctan2(c.x - PEAK[0], c.y - PEAK[1] + 0.09)
    left = step(0.03, -0.12, c.x - PEAK[0] + 0.02 * block.wobble)
    body = c.y > top
    dark = np.clip(0.24 + 0.5 * left + 0.12 * np.sin(31 * turn + 2 * block.wobble), 0.08, 0.9)
    block.print(body, ramp([DEEP, BLUE, TEAL], fall + 0.25 * (1 - left)), turn * 46 / math.pi * 1.5, dark)
    teeth = 0.075 + 0.035 * np.abs(np.sin(23 * turn)) + 0.028 * np.abs(np.sin(57 * turn + 1))
    snow = body & (c.y < PEAK[1] + teeth + 0.35 * away)
    block.print(snow, SNOW, turn * 46 / math.pi * 1.5, 0.12 + 0.42 * left)


def hills(block: Block) -> None:
    """Two rows of wooded hills with fields between them."""
    c = block.canvas
    for base, height, turn, ink, dark in ((0.44, 0.045, 0.6, MOSS, 0.3), (0.475, 0.032, 2.9, LEAF, 0.55)):
        ridge = base - height * np.abs(np.sin(5.5 * c.x + turn)) ** 1.5 - 0.014 * np.sin(17 * c.x + 2 * turn)
        below = c.y - ridge - 0.002 * block.wobble
        shade = dark + 0.25 * step(0.0, 0.06, below) * np.sin(11 * c.x + turn) ** 2
        block.print(below > 0, ink, below / 0.0095 + 0.8 * np.sin(13 * c.x), shade)


def sea(block: Block) -> None:
    """Rows of waves with cusps, larger and darker towards the front, with foam on their crests."""
    c = block.canvas
    rows = 8
    for row in range(rows):
        t = row / (rows - 1)
        y, length, high = 0.5 + 0.29 * t**1.25, 0.075 + 0.2 * t, 0.008 + 0.045 * t
        bend = (c.x + 0.31 * row * length + 0.012 * block.wobble * t) / length
        lean = bend + 0.09 * np.sin(2 * math.pi * bend)
        crest = y - high * (1 - np.abs(np.sin(math.pi * lean))) ** 1.15
        below = c.y - crest
        ink = ramp([TEAL, BLUE, DEEP], np.full(c.shape, t) + 0.3 * step(0, 0.09, below))
        spacing = 0.007 + 0.006 * t
        dark = np.clip(0.18 + 0.42 * step(0.0, 0.05 + 0.05 * t, below) + 0.16 * np.sin(2 * math.pi * bend), 0.1, 0.8)
        block.print(below > 0, ink, below / spacing, dark)
        thick = (0.0035 + 0.017 * t) * (0.45 + 0.8 * (1 - np.abs(np.sin(math.pi * lean))) ** 2)
        scallop = thick * (0.75 + 0.35 * np.abs(np.sin(9 * math.pi * bend)))
        block.print((below > 0) & (below < scallop), SNOW, below / spacing, np.zeros(c.shape))


def pine(block: Block) -> None:
    """An old pine that leans over the sea, whose needles are fans of black lines."""
    c, rng = block.canvas, block.canvas.rng
    n = c.unit

    def shape(points: list[tuple[float, float]], widths: list[float]) -> Mask:
        image = Image.new("L", c.shape[::-1])
        draw = ImageDraw.Draw(image)
        for (x0, y0), (x1, y1), w0, w1 in zip(points, points[1:], widths, widths[1:], strict=False):
            for i in range(24):
                s = i / 24
                x, y, w = x0 + (x1 - x0) * s, y0 + (y1 - y0) * s, (w0 + (w1 - w0) * s) * (1 + 0.12 * math.sin(9 * s))
                draw.ellipse(((x - w) * n, (y - w) * n, (x + w) * n, (y + w) * n), fill=255)
        return np.asarray(image) > 127

    trunk = [(-0.02, 0.8), (0.05, 0.66), (0.045, 0.55), (0.09, 0.45), (0.085, 0.36), (0.14, 0.3)]
    bark = shape(trunk, [0.05, 0.034, 0.027, 0.02, 0.015, 0.008])
    for points in (
        [(0.09, 0.45), (0.17, 0.43), (0.26, 0.45)],
        [(0.085, 0.37), (0.02, 0.33)],
        [(0.05, 0.6), (0.13, 0.57), (0.2, 0.59)],
    ):
        bark |= shape(points, [0.013, 0.009, 0.005])
    block.print(bark, color(132, 74, 48), (c.x * 0.5 + c.y) / 0.012 + 1.6 * block.wobble, np.full(c.shape, 0.5))
    for x, y, r in (
        *((0.03, 0.325, 0.06), (0.1, 0.3, 0.055), (0.17, 0.275, 0.06), (0.14, 0.235, 0.045), (0.2, 0.425, 0.055)),
        *((0.275, 0.45, 0.055), (0.15, 0.555, 0.048), (0.215, 0.585, 0.05), (0.0, 0.43, 0.05), (0.13, 0.42, 0.04)),
    ):
        dx, dy = c.x - x, (c.y - y - 0.25 * r) * 1.35
        far, angle = np.hypot(dx, dy), np.arctan2(dy, dx)
        rim = r * (0.9 + 0.09 * np.sin(17 * angle + 9 * rng.random()) + 0.05 * np.sin(31 * angle))
        fan = (far < rim) & (c.y < y + 0.42 * r)
        block.print(fan, LEAF, angle * 34 / (2 * math.pi) * 1.3, 0.34 + 0.32 * step(0.25, 1.0, far / r))


def paint(canvas: Canvas) -> Image.Image:
    """Paints the picture."""
    block = Block(canvas)
    for part in (sky, mountain, hills, sea, pine):
        part(block)
    return canvas.picture(block.finish())
