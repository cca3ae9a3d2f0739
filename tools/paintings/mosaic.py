"""A mosaic: two fish that turn about each other over waves, in small stones with gold among them, within a border.

Stones lie in rows that follow the outlines, as a mosaicist lays them; what is left between rows is filled with smaller
ones. Each stone is tilted a little otherwise, so that it catches the light in its own way.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage
from skimage.measure import find_contours

from paintings.canvas import Array, Canvas, Mask, borders, color, step

GROUT = color(112, 104, 96)
SIDE = 0.0118
"""Side of a stone, in shares of the width."""

CENTRE, RING = (0.5, 0.394), 0.192
"""About what the fish turn, and how far from it they are."""

TEAL = (color(40, 132, 140), color(70, 166, 160), color(24, 104, 122), color(120, 196, 180))
BLUE = (color(32, 80, 150), color(54, 112, 178), color(22, 54, 112), color(96, 150, 200))
FOAM = (color(222, 232, 220), color(178, 212, 206), color(240, 240, 226))
GOLD = (color(226, 172, 58), color(244, 202, 92), color(200, 138, 38), color(255, 226, 140))
RED = (color(196, 70, 46), color(222, 104, 58), color(160, 48, 40), color(236, 140, 80))
ROSE = (color(236, 168, 140), color(246, 200, 168), color(224, 140, 120))
CREAM = (color(240, 226, 196), color(226, 206, 170), color(250, 240, 216))
DARK = (color(38, 34, 46), color(56, 44, 60))
GREEN = (color(70, 120, 80), color(104, 150, 92), color(48, 94, 76))

Stones = tuple[Array, ...]


class Wall:
    """The drawing: a number for each part, and the stones of each.

    Args:
        canvas: Where.
    """

    def __init__(self, canvas: Canvas) -> None:
        self.canvas = canvas
        self.parts = np.zeros(canvas.shape, np.int64)
        self.stones: list[Stones] = [TEAL]

    def draw(self, where: Mask, stones: Stones) -> None:
        """Draws a part over what is there."""
        self.parts[where] = len(self.stones)
        self.stones.append(stones)


def waves(wall: Wall) -> None:
    """Draws rows of waves like scales, each with three arcs."""
    c = wall.canvas
    size = 0.118
    for row in range(-1, 17):
        y = row * size * 0.42
        middle = (np.floor(c.x / size + 0.5 * (row % 2)) + 0.5 - 0.5 * (row % 2)) * size
        far = np.hypot(c.x - middle, c.y - y - 0.5 * size)
        inside = (c.y < y + 0.5 * size) & (far < 0.5 * size)
        deep = BLUE if row > 8 or (row + 2) % 5 == 0 else TEAL
        for reach, stones in ((0.5, deep), (0.385, FOAM if row % 3 == 0 else GREEN), (0.275, deep), (0.155, GOLD)):
            wall.draw(inside & (far < reach * size), stones)


def fish(wall: Wall, start: float, back: Stones, belly: Stones, fins: Stones) -> None:
    """Draws a fish along the ring, its head last.

    Args:
        wall: Where.
        start: The angle of its tail.
        back: Stones of its back.
        belly: Stones of its belly.
        fins: Stones of its fins and its tail.
    """
    c = wall.canvas
    far, angle = np.hypot(c.x - CENTRE[0], c.y - CENTRE[1]), np.arctan2(c.y - CENTRE[1], c.x - CENTRE[0])
    s = ((angle - start) % (2 * math.pi)) / 2.72
    across = far - RING - 0.02 * np.sin(2 * math.pi * np.clip(s, 0, 1)) + 0.006
    half = 0.083 * np.sin(math.pi * np.clip(s, 0, 1) ** 0.8) ** 0.85 * (s < 1) + 0.004
    fork = (s < 0.2) & (s > -0.01) & (np.abs(across) < 0.014 + 0.42 * (0.2 - s)) & (s > 0.055 - 0.75 * np.abs(across))
    fin = (
        (s > 0.3)
        & (s < 0.78)
        & (across > 0)
        & (across < half + 0.05 * np.sin(math.pi * np.clip((s - 0.3) / 0.48, 0, 1)) ** 0.7)
    )
    low = (s > 0.42) & (s < 0.62) & (across < 0) & (-across < half + 0.045 * np.sin(math.pi * (s - 0.42) / 0.2))
    outline = 0.0085
    body = (s > 0.1) & (s < 0.992) & (np.abs(across) < half)
    near = ndimage.distance_transform_edt(~(fork | fin | low | body)) / c.unit
    wall.draw(near < outline, DARK)
    for part in (fork, fin, low):
        wall.draw(part, fins)
    wall.draw(body, back)
    wall.draw(body & (across < -0.1 * half), belly)
    scales = np.floor((s + 0.035 * np.abs(np.sin(across / 0.012))) / 0.075)
    wall.draw(body & (s < 0.74) & (across > -0.1 * half) & (scales % 2 == 0), fins)
    wall.draw(body & (np.abs(across + 0.1 * half) < 0.006), CREAM)
    wall.draw(body & (np.abs(s - 0.765 + 0.9 * (across / 0.3) ** 2 * 4) < 0.016), CREAM)
    wall.draw(body & (s > 0.785 - 3.6 * (across / 0.3) ** 2), back)
    eye = start + 2.72 * 0.87
    x, y = (CENTRE[i] + (RING + 0.012) * f(eye) for i, f in enumerate((math.cos, math.sin)))
    for reach, stones in ((0.0245, CREAM), (0.0125, DARK)):
        wall.draw(np.hypot(c.x - x, c.y - y) < reach, stones)


def border(wall: Wall) -> None:
    """Draws a frame: a plait of two bands on dark stones between lines of red and gold."""
    c = wall.canvas
    side = np.minimum(np.minimum(c.x, 1 - c.x), np.minimum(c.y, c.bottom - c.y))
    upright = np.minimum(c.x, 1 - c.x) < np.minimum(c.y, c.bottom - c.y)
    along = np.where(upright, c.y / c.bottom * 6, c.x * 8) * math.pi
    wall.draw(side < 0.096, CREAM)
    wall.draw(side < 0.084, DARK)
    for shift, stones, light in ((0.0, RED, ROSE), (math.pi, GOLD, CREAM)):
        swing = 0.0475 + 0.0215 * np.sin(2 * along + shift)
        wall.draw((np.abs(side - swing) < 0.0135) & (side < 0.084), stones)
        wall.draw((np.abs(side - swing) < 0.0045) & (side < 0.084), light)
    wall.draw(side < 0.013, RED)


def lay(wall: Wall) -> Array:
    """Lays stones into all parts; returns the colours, (H, W, 3)."""
    c, rng, n = wall.canvas, wall.canvas.rng, wall.canvas.unit
    size = SIDE * n
    away = borders(wall.parts)
    grout = GROUT * (1 + 0.09 * c.noise(0.002, 2))[..., None]
    image = Image.fromarray(np.clip(grout, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    taken = Image.new("L", c.shape[::-1])
    ground = ImageDraw.Draw(taken)
    tilt = c.noise(0.06, 2)

    def stone(x: float, y: float, turn: float, long: float, wide: float) -> None:
        part = int(wall.parts[min(max(int(y), 0), c.shape[0] - 1), min(max(int(x), 0), c.shape[1] - 1)])
        stones = wall.stones[part]
        tone = stones[int(rng.integers(len(stones)))] * (0.9 + 0.2 * rng.random()) + 6 * rng.standard_normal(3)
        glow = 1 + 0.07 * tilt[int(y) % c.shape[0], int(x) % c.shape[1]] + 0.05 * rng.standard_normal()
        if stones is GOLD and rng.random() < 0.3:
            glow += 0.22
        corners = []
        for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1)):
            u, v = a * long * (0.93 + 0.12 * rng.random()), b * wide * (0.93 + 0.12 * rng.random())
            corners.append((x + u * math.cos(turn) - v * math.sin(turn), y + u * math.sin(turn) + v * math.cos(turn)))
        ground.polygon(corners, fill=255)
        for share, bright, shift in ((1.0, 0.74, 0.0), (0.86, 1.0, -0.04), (0.56, 1.07, -0.1)):
            inner = [(x + (px - x) * share + shift * size, y + (py - y) * share + shift * size) for px, py in corners]
            draw.polygon(inner, fill=tuple(int(np.clip(value * glow * bright, 0, 255)) for value in tone))
        if glow > 1.12:
            (ax, ay), (bx, by) = corners[0], corners[1]
            px, py = 0.55 * ax + 0.25 * bx + 0.2 * x, 0.55 * ay + 0.25 * by + 0.2 * y
            r = 0.09 * size
            draw.ellipse((px - r, py - r, px + r, py + r), fill=(255, 250, 232))

    for row in range(40):
        level = (row + 0.54) * size
        if away.max() < level:
            break
        for line in find_contours(away, level):
            steps = np.hypot(*np.diff(line, axis=0).T)
            length = np.concatenate([[0], np.cumsum(steps)])
            count = int(length[-1] / (1.04 * size))
            if count < 1:
                continue
            pitch = length[-1] / count
            places = (np.arange(count) + rng.random()) * pitch % length[-1]
            ys, xs = (np.interp(places, length, line[:, i]) for i in (0, 1))
            ahead = (places + 0.3 * size) % length[-1]
            behind = (places - 0.3 * size) % length[-1]
            dy, dx = (np.interp(ahead, length, line[:, i]) - np.interp(behind, length, line[:, i]) for i in (0, 1))
            for x, y, turn in zip(xs, ys, np.arctan2(dy, dx), strict=True):
                if taken.getpixel((min(int(x), c.shape[1] - 1), min(int(y), c.shape[0] - 1))) == 0:
                    stone(x, y, turn, 0.455 * pitch, 0.45 * size)
    for smallest in (0.42, 0.3, 0.2):
        room = ndimage.distance_transform_edt(np.asarray(taken) == 0)
        room = np.minimum(room, away + 0.12 * size)
        peaks = (room == ndimage.maximum_filter(room, int(0.5 * size))) & (room > smallest * size)
        for y, x in np.argwhere(peaks):
            if taken.getpixel((int(x), int(y))) == 0:
                half = 0.9 * float(room[y, x])
                stone(float(x), float(y), math.pi * rng.random(), min(half, 0.5 * size), min(half, 0.45 * size))
    return np.asarray(image, float)


def paint(canvas: Canvas) -> Image.Image:
    """Paints the picture."""
    wall = Wall(canvas)
    waves(wall)
    c = canvas
    far = np.hypot(c.x - CENTRE[0], c.y - CENTRE[1])
    for reach, stones in ((0.088, DARK), (0.079, GOLD), (0.05, RED), (0.026, CREAM)):
        wall.draw(far < reach, stones)
    fish(wall, 2.75, RED, ROSE, GOLD)
    fish(wall, 2.75 + math.pi, BLUE, CREAM, GREEN)
    border(wall)
    colors = lay(wall)
    light = 1.06 - 0.2 * step(0.2, 0.75, np.hypot(c.x - 0.42, c.y - 0.3)) + 0.02 * c.noise(0.0018, 2)
    return canvas.picture(colors * light[..., None])
