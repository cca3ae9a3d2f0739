"""A window of leaded glass: a sun over hills, a river and lilies, in panes that the light comes through.

Lead runs along the drawing's lines and between the panes that each of its parts is cut into. A pane has one glass, with
streaks, bubbles and a thickness that changes, and glows most in its middle; lead is round and shines at its upper edge.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from paintings.canvas import Array, Canvas, Mask, borders, color, mix, step

LEAD, SHINE = color(26, 25, 30), color(150, 150, 160)
SUN = (0.5, 0.25)
SUNS = (color(255, 244, 170), color(255, 210, 70), color(250, 150, 40))
RAYS = (color(252, 186, 60), color(244, 120, 52), color(226, 70, 60), color(250, 214, 130))
SKIES = (color(70, 130, 220), color(36, 84, 190), color(104, 176, 232), color(84, 66, 176), color(28, 50, 140))
HILLS = (color(60, 150, 70), color(24, 110, 70), color(140, 180, 50), color(18, 84, 84))
WATER = (color(40, 170, 190), color(26, 116, 180), color(110, 210, 210), color(20, 78, 150))
PETALS = (color(240, 70, 120), color(250, 150, 180), color(206, 30, 84), color(255, 220, 226))
LEAVES = (color(40, 130, 60), color(100, 170, 60), color(16, 96, 70))
HEARTS = (color(255, 206, 60), color(240, 150, 30))
FRAME = (color(150, 30, 44), color(30, 60, 130), color(214, 150, 40), color(110, 24, 70))

LILIES = ((0.2, 0.62, 0.115, 0.2), (0.8, 0.64, 0.11, -0.3), (0.5, 0.705, 0.09, 0.0))
"""Middle, radius and turn of each flower."""


class Window:
    """The window's parts and panes.

    Args:
        canvas: Where.
    """

    def __init__(self, canvas: Canvas) -> None:
        self.canvas = canvas
        self.panes = np.zeros(canvas.shape, np.int64)
        self.colors = [color(0, 0, 0)]

    def cut(self, where: Mask, glasses: tuple[Array, ...], panes: NDArray[np.int64]) -> None:
        """Sets a part, (H, W), in glass: each of its panes, numbered in (H, W), gets one of the glasses."""
        rng = self.canvas.rng
        found, inverse = np.unique(panes[where], return_inverse=True)
        self.panes[where] = len(self.colors) + inverse
        start = int(rng.integers(len(glasses)))
        for i in range(len(found)):
            glass = glasses[(start + i + int(rng.random() < 0.35)) % len(glasses)]
            self.colors.append(glass * (0.86 + 0.26 * rng.random()) + 7 * rng.standard_normal(3))


def rings(far: Array, angle: Array, radii: tuple[float, ...], counts: tuple[int, ...]) -> NDArray[np.int64]:
    """Returns panes between circles, each ring in sectors of its own number."""
    ring = np.digitize(far, radii)
    parts = np.array([*counts, counts[-1]])[np.minimum(ring, len(counts) - 1)]
    sector = np.floor((angle / (2 * math.pi) + 0.5 + 0.5 * (ring % 2) / parts) * parts) % parts
    return np.asarray(ring * 1000 + sector, np.int64)


def draw(window: Window) -> None:
    """Draws all parts, from the back to the front."""
    c = window.canvas
    dx, dy = c.x - SUN[0], c.y - SUN[1]
    far, angle = np.hypot(dx, dy), np.arctan2(dy, dx)
    everywhere = np.ones(c.shape, bool)
    bent = angle + 0.5 * np.sin(3.2 * far + 0.6)
    window.cut(everywhere, SKIES, rings(far, bent, (0.2, 0.29, 0.38, 0.48, 0.6), (16, 16, 24, 24, 32, 32)))
    flame = 0.165 + 0.045 * np.cos(16 * bent)
    window.cut(far < flame, RAYS, rings(far, bent, (0.135,), (16, 16)))
    window.cut(far < 0.098, SUNS, rings(far, angle + 0.2, (0.045, 0.072), (1, 8, 8)))
    for i, (base, high, turn) in enumerate(((0.43, 0.06, 0.3), (0.475, 0.05, 2.2), (0.52, 0.03, 4.4))):
        ridge = base - high * np.sin(5.2 * c.x + turn) - 0.012 * np.sin(12 * c.x + turn)
        slope = np.asarray((c.x + 0.25 * (c.y - ridge) * (-1) ** i) / 0.085, np.int64)
        window.cut(c.y > ridge, HILLS, slope * 10 + (c.y > ridge + 0.055))
    middle = 0.5 + 0.13 * np.sin(8.5 * (c.y - 0.42)) * step(0.42, 0.6, c.y)
    half = 0.02 + 0.42 * np.maximum(c.y - 0.44, 0)
    flow = np.log(np.maximum(c.y - 0.4, 0.01) / 0.05 + 0.12 * np.sin(16 * c.x)) / 0.24
    river = (c.y > 0.455) & (np.abs(c.x - middle) < half)
    window.cut(river, WATER, np.asarray(flow, np.int64) * 10 + np.asarray((c.x - middle) / half + 3, np.int64))
    for x, y, radius, turn in LILIES:
        lily(window, x, y, radius, turn)
    side = np.minimum(np.minimum(c.x, 1 - c.x), np.minimum(c.y, c.bottom - c.y))
    upright = np.minimum(c.x, 1 - c.x) < np.minimum(c.y, c.bottom - c.y)
    along = np.asarray(np.where(upright, c.y, c.x) / 0.0494, np.int64)
    window.cut(side < 0.034, FRAME, along + 100 * upright + 1000 * (c.x > 0.5) + 10000 * (c.y > c.bottom / 2))


def lily(window: Window, x: float, y: float, radius: float, turn: float) -> None:
    """Draws a flower with leaves below and two rows of petals."""
    c = window.canvas
    dx, dy = (c.x - x) / radius, (c.y - y) / radius
    for lean in (-1.0, 1.0):
        along, away = dx * lean + 0.25 * dy, dy - 0.42 * np.abs(dx) + 0.05
        leaf = (along > 0) & (along < 1.75) & (np.abs(away) < 0.42 * np.sin(math.pi * np.clip(along / 1.75, 0, 1)))
        window.cut(leaf, LEAVES, np.asarray(along * 2.2, np.int64) * 10 + (away > 0) + 2)
    far, angle = np.hypot(dx, dy * 1.12), np.arctan2(dy, dx) + turn
    for petals, reach, shift in ((8, 1.0, 0.0), (6, 0.66, 0.35)):
        wave = (angle + shift) * petals / (2 * math.pi)
        tip = reach * (0.52 + 0.48 * np.abs(np.cos(math.pi * (wave % 1 - 0.5))) ** 0.7)
        window.cut(far < tip, PETALS, np.asarray(np.floor(wave) % petals, np.int64))
    window.cut(far < 0.2, HEARTS, np.asarray(np.floor(angle * 5 / (2 * math.pi)) % 5, np.int64))


def paint(canvas: Canvas) -> Image.Image:
    """Paints the picture."""
    window = Window(canvas)
    draw(window)
    away = borders(window.panes) / canvas.unit
    glass = np.stack(window.colors)[window.panes]
    rng = canvas.rng
    streaks = np.zeros(canvas.shape)
    kinds = rng.integers(3, size=len(window.colors))[window.panes]
    for kind, cell in enumerate(((0.012, 0.11), (0.11, 0.014), (0.035, 0.035))):
        streaks = np.where(kinds == kind, canvas.noise(cell), streaks)
    ripple = canvas.noise(0.012, 2)
    light = 0.8 + 0.3 * step(0.0, 0.03, away) + 0.1 * streaks + 0.045 * ripple
    light *= 1.2 - 0.42 * np.hypot(canvas.x - 0.5, (canvas.y - 0.33) * 1.1)
    hue = 0.5 + 0.5 * np.tanh(0.8 * streaks)
    glass = mix(glass, np.roll(glass, 1, axis=2) * 0.35 + glass * 0.75, 0.35 * hue)
    painted = glass * light[..., None] + 26 * (np.maximum(light - 1.02, 0) / 0.2)[..., None] * color(1, 0.95, 0.8)
    bubbles = canvas.noise(0.0045, 1)
    painted = mix(painted, np.full(3, 255.0), 0.42 * step(2.5, 2.9, bubbles))
    wide = 0.0036 + 0.0006 * canvas.noise(0.05, 2)
    grimy = step(wide.mean() * 3.4, wide.mean(), away) * (0.5 + 0.3 * canvas.noise(0.01))
    painted = painted * (1 - 0.5 * np.clip(grimy, 0, 1))[..., None]
    high = np.sqrt(np.clip(1 - (away / wide) ** 2, 0, 1))
    down, across = np.gradient(ndimage.gaussian_filter(high, 0.0012 * canvas.unit))
    shine = np.clip(-(down + 0.6 * across) * 0.0042 * canvas.unit, 0, 1) + 0.12 * high * (1 + 0.5 * ripple)
    lead = mix(np.broadcast_to(LEAD, painted.shape), SHINE, np.clip(shine, 0, 1))
    return canvas.picture(mix(painted, lead, step(1.06, 0.9, away / wide)))
