"""A picture of dots: a river in the evening with poplars, sails and a sun, and its broken light in the water.

Each dot has one pure colour. The colour of a place is what its dots make from afar: some are warmer, some cooler, and
some are of the opposite colour, so that the others shine. Dots lie along the form: flat on water, upright in trees.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw

from paintings.canvas import Array, Canvas, color, mix, ramp, step

GROUND = color(238, 222, 190)
ZENITH, SKY, HAZE, GLOW = color(66, 110, 190), color(132, 178, 224), color(250, 202, 150), color(255, 170, 84)
SUN, RIVER, FAR = color(255, 240, 170), color(58, 92, 168), color(112, 118, 176)
LEAF, SHADE, GRASS, LIGHT = color(44, 116, 84), color(44, 62, 118), color(124, 160, 70), color(236, 204, 92)
SAIL, POPPY = color(255, 246, 226), color(224, 56, 44)
AT = (0.64, 0.265)
SHORE, BANK = 0.36, 0.6

TREES = ((0.06, 0.52, 0.075, 0.47), (0.155, 0.46, 0.05, 0.37), (0.225, 0.41, 0.036, 0.27), (0.93, 0.5, 0.08, 0.43))
"""Middle and foot of each tree in shares of the width, half its width, and its height."""

BOATS = ((0.4, 0.49, 0.17), (0.8, 0.43, 0.1), (0.55, 0.4, 0.06))
"""Middle and waterline of each boat, and the height of its sail."""


def scene(x: Array, y: Array) -> tuple[Array, Array, Array]:
    """Returns colours (N, 3), directions in radians (N,), and how finely to dot (N,), at places."""
    far = np.hypot(x - AT[0], (y - AT[1]) * 1.1)
    colors = ramp([ZENITH, SKY, HAZE, GLOW], y / 0.36 + 0.05 * np.sin(9 * x))
    colors = mix(colors, GLOW, 0.75 * step(0.3, 0.04, far))
    streak = np.sin(60 * y + 5 * np.sin(4 * x + 9 * y)) * np.sin(7 * x - 3 * y + 1)
    colors = mix(colors, color(255, 226, 214), 0.8 * step(0.25, 0.75, streak) * step(0.34, 0.1, y))
    colors = mix(colors, SUN, step(0.062, 0.052, far))
    turn, fine = np.arctan2(y - AT[1], x - AT[0]) + math.pi / 2, np.ones_like(x)
    hill = SHORE - 0.035 * np.sin(4 * x + 0.5) ** 2 - 0.02 * np.sin(11 * x)
    on_hill = (y > hill) & (y < SHORE)
    colors = np.where(on_hill[:, None], mix(FAR, color(196, 140, 150), 0.5 + 0.5 * np.sin(23 * x)), colors)
    water = y > SHORE
    ripple = np.sin(260 * (y - SHORE) / (0.35 + 2.2 * (y - SHORE)) + 8 * np.sin(9 * x))
    mirror = ramp([GLOW, HAZE, SKY, RIVER], (y - SHORE) / 0.24 + 0.12 * ripple)
    path = step(0.1, 0.0, np.abs(x - AT[0]) - 0.1 * (y - SHORE)) * (0.5 + 0.5 * ripple)
    mirror = mix(mix(mirror, RIVER, 0.22 + 0.2 * ripple), SUN, 0.95 * path)
    colors, turn = np.where(water[:, None], mirror, colors), np.where(water, 0.0, turn)
    for cx, cy, high in BOATS:
        up = (cy - y) / high
        for side, wide in ((1, 0.42), (-1, 0.26)):
            inside = (
                (up > 0.08) & (up < 1) & ((x - cx) * side > 0.01 * high) & ((x - cx) * side < wide * high * (1.02 - up))
            )
            colors = np.where(inside[:, None], mix(SAIL, GLOW, 0.5 * (side < 0) + 0 * x), colors)
            fine = np.where(inside, 0.7, fine)
        hull = (np.abs(x - cx) < high * (0.42 - 0.9 * np.maximum(-up, 0))) & (up < 0.08) & (up > -0.1)
        colors = np.where(hull[:, None], color(120, 44, 48), colors)
        below = (up < -0.1) & (up > -0.85) & (np.abs(x - cx + 0.04 * high * np.sin(300 * y)) < 0.27 * high * (1 + up))
        colors = np.where(below[:, None], mix(colors, SAIL, 0.6), colors)
    bank = BANK + 0.04 * np.sin(5 * x + 2) + 0.1 * (x - 0.5) ** 2 * np.sign(0.45 - x)
    down = (y - bank) / 0.18
    meadow = ramp(
        [SHADE, LEAF, GRASS, LIGHT], 0.62 + 0.42 * np.sin(13 * x + 22 * y) * np.sin(31 * y - 4 * x) - 0.2 * down
    )
    colors = np.where((down > 0)[:, None], meadow, colors)
    turn = np.where(down > 0, 1.35 + 0.5 * np.sin(9 * x), turn)
    for cx, foot, wide, high in TREES:
        up = (foot + 0.1 - y) / high
        rim = wide * np.sin(math.pi * np.clip(up * 0.94 + 0.06, 0, 1)) ** 0.55 * (1 + 0.16 * np.sin(70 * y + 40 * x))
        inside = (up > 0.02) & (up < 1) & (np.abs(x - cx) < rim)
        lit = 0.5 + 0.55 * (x - cx) / wide * (1 if cx < AT[0] else -1) + 0.25 * np.sin(90 * x + 60 * y)
        colors = np.where(inside[:, None], ramp([SHADE, LEAF, GRASS, LIGHT], lit), colors)
        turn = np.where(inside, math.pi / 2 + 0.5 * np.sin(40 * x), turn)
        mirrored = (y > foot + 0.1) & (y < bank) & (np.abs(x - cx + 0.006 * ripple) < 0.8 * wide)
        colors = np.where(mirrored[:, None], mix(colors, SHADE, 0.55), colors)
    return colors, turn, fine


def vivid(colors: Array, canvas: Canvas) -> Array:
    """Returns the pure colours of dots that make colours (N, 3) from afar."""
    rng, count = canvas.rng, len(colors)
    gray = colors.mean(1, keepdims=True)
    strong = gray + (colors - gray) * (1.04 + 0.3 * rng.random((count, 1)))
    shift = rng.standard_normal((count, 1)) * color(26, 4, -30) + rng.standard_normal((count, 3)) * 13
    opposite = gray * 1.12 - (colors - gray) * 0.5
    chance = rng.random((count, 1))
    return np.asarray(np.where(chance < 0.11, opposite, np.where(chance < 0.24, strong * 0.84, strong + shift)))


def lay(draw: ImageDraw.ImageDraw, canvas: Canvas, size: float) -> None:
    """Lays dots of about one size, evenly and in a random order; each is a short dab of two edges."""
    rng, n = canvas.rng, canvas.unit
    across, down = np.meshgrid(np.arange(0, 1, size), np.arange(0, canvas.bottom, size * 0.9))
    across[::2] += size / 2
    x, y = (grid.ravel() + rng.normal(0, 0.27 * size, grid.size) for grid in (across, down))
    order = rng.permutation(len(x))
    x, y = x[order], y[order]
    colors, turn, fine = scene(x, y)
    flowers = (rng.random(len(x)) < 0.05) & (y > BANK + 0.05)
    colors[flowers] = np.where(rng.random((int(flowers.sum()), 1)) < 0.7, POPPY, SAIL)
    tones = np.clip(vivid(colors, canvas), 0, 255)
    radius = size * (0.46 + 0.2 * rng.random(len(x))) * fine
    for px, py, r, angle, tone in zip(x * n, y * n, radius * n, turn, tones, strict=True):
        dx, dy = 0.42 * r * math.cos(angle), 0.42 * r * math.sin(angle)
        body, lit = tuple(int(v) for v in tone), tuple(int(min(255, v * 1.14 + 8)) for v in tone)
        for s in (-1.0, 0.0, 1.0):
            draw.ellipse((px + s * dx - r, py + s * dy - r, px + s * dx + r, py + s * dy + r), fill=body)
        a = 0.55 * r
        draw.ellipse((px - 0.28 * r - a, py - 0.3 * r - a, px - 0.28 * r + a, py - 0.3 * r + a), fill=lit)


def paint(canvas: Canvas) -> Image.Image:
    """Paints the picture."""
    image = Image.new("RGB", canvas.shape[::-1], tuple(int(v) for v in GROUND))
    draw = ImageDraw.Draw(image)
    for size in (0.0145, 0.0098, 0.0086):
        lay(draw, canvas, size)
    weave = 3.5 * canvas.noise(0.0017, 1)[..., None]
    return canvas.picture(np.asarray(image, float) + weave)
