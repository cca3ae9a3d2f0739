"""Paints the sample painting: a swirling night sky over hills and a village, in brush strokes.

    python tools/paint_night.py nst/assets/night.jpg

The picture is our own (MIT, like the code), and the same arguments make the same picture. Strokes follow a flow field
of eddies; they are laid from broad to fine, each in a slightly different mix of its colour, as a brush leaves paint.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Array = NDArray[np.float64]

EDDIES = ((0.44, 0.34, 0.17, 1.0), (0.63, 0.45, 0.12, -1.0), (0.14, 0.42, 0.10, 0.8), (0.90, 0.50, 0.10, -0.8))
"""Centre (x, y), radius and spin of each eddy, in shares of the width (of the height for y)."""

STARS = (
    (0.07, 0.13, 0.030),
    (0.20, 0.20, 0.024),
    (0.29, 0.09, 0.022),
    (0.33, 0.50, 0.020),
    (0.52, 0.12, 0.026),
    (0.66, 0.20, 0.028),
    (0.76, 0.36, 0.022),
    (0.12, 0.58, 0.022),
    (0.56, 0.57, 0.018),
)
"""Centre (x, y) and radius of each star."""

MOON = (0.87, 0.17, 0.060)
NIGHT, BLUE, PALE = (18, 32, 84), (43, 88, 164), (156, 196, 214)
GOLD, LEMON = (238, 186, 52), (250, 234, 150)
HILLS = ((34, 62, 96), (26, 52, 66), (20, 40, 44))
ROOFS = ((58, 62, 84), (84, 58, 52), (44, 54, 80))


def mix(first: Array, second: Array, share: Array) -> Array:
    """Blends two colours (..., 3) by a share (...)."""
    return first + (second - first) * share[..., None]


def flow(x: Array, y: Array, aspect: float) -> tuple[Array, Array]:
    """Returns the angle of the strokes at points in shares of width and height, and how near an eddy they are."""
    u, v = np.ones_like(x), 0.35 * np.sin(5.0 * x + 1.3) + 0.25 * np.sin(9.0 * y - 3.0 * x)
    near = np.zeros_like(x)
    for cx, cy, radius, spin in EDDIES:
        dx, dy = x - cx, (y - cy) * aspect
        distance = np.hypot(dx, dy)
        pull = np.exp(-((distance / radius) ** 2)) * 6.0 * spin
        u, v = u - pull * dy / radius, v + pull * dx / radius
        near = np.maximum(near, np.exp(-((distance / radius) ** 2)))
    for cx, cy, radius in (*STARS, MOON):
        dx, dy = x - cx, (y - cy) * aspect
        pull = np.exp(-((np.hypot(dx, dy) / (2.6 * radius)) ** 2)) * 8.0
        u, v = u - pull * dy / radius, v + pull * dx / radius
    return np.arctan2(v, u), near


def sky(x: Array, y: Array, aspect: float, near: Array) -> Array:
    """Returns the colour of the sky at points, (..., 3)."""
    bands = 0.5 + 0.5 * np.sin(26.0 * (y + 0.08 * np.sin(6.0 * x)) + 2.0 * np.sin(11.0 * x))
    color = mix(np.array(NIGHT, float), np.array(BLUE, float), np.clip(0.15 + 0.55 * bands + 0.35 * y, 0, 1))
    for cx, cy, radius, _ in EDDIES:
        dx, dy = x - cx, (y - cy) * aspect
        turn = np.sin(14.0 * np.hypot(dx, dy) / radius * 0.55 - np.arctan2(dy, dx) * 1.0)
        strength = np.exp(-((np.hypot(dx, dy) / (1.15 * radius)) ** 2))
        color = mix(color, np.array(PALE, float), np.clip(strength * (0.35 + 0.65 * turn), 0, 1))
    for cx, cy, radius in (*STARS, MOON):
        rings = np.hypot(x - cx, (y - cy) * aspect) / radius
        color = mix(color, np.array(PALE, float), np.clip(0.8 - 0.35 * rings, 0, 0.6))
        color = mix(color, np.array(GOLD, float), np.clip(1.75 - 1.0 * rings, 0, 1))
        color = mix(color, np.array(LEMON, float), np.clip(1.4 - 1.8 * rings, 0, 1))
    return color


def ridge(x: Array, layer: int) -> Array:
    """Returns the height of a line of hills at x, in shares of the picture's height from the top."""
    base = (0.70, 0.76, 0.84)[layer]
    return base - 0.05 * np.sin(5.0 * x + 2.1 * layer) - 0.025 * np.sin(13.0 * x + layer) - 0.05 * x * (layer == 0)


def scene(x: Array, y: Array, aspect: float) -> tuple[Array, Array]:
    """Returns the colour, (..., 3), and the angle of the strokes at points of the picture."""
    angle, near = flow(x, y, aspect)
    color = sky(x, y, aspect, near)
    for layer, tone in enumerate(HILLS):
        below = y > ridge(x, layer)
        slope = np.arctan2((ridge(x + 0.01, layer) - ridge(x - 0.01, layer)) * aspect, 0.02)
        shade = 0.8 + 0.35 * np.sin(40.0 * (y - ridge(x, layer)) + 9.0 * x)
        color = np.where(below[..., None], np.array(tone, float) * shade[..., None], color)
        angle = np.where(below, slope + 0.3 * np.sin(9.0 * x), angle)
    return color, angle


def strokes(draw: ImageDraw.ImageDraw, size: tuple[int, int], rng: np.random.Generator, width: float, n: int) -> None:
    """Lays strokes of about one width at random places, each along the flow and in one colour."""
    w, h = size
    aspect = h / w
    length = 7.0 * width
    for _ in range(n):
        x, y = rng.random(), rng.random()
        color, angle = scene(np.array(x), np.array(y), aspect)
        shade = 1.0 + 0.16 * rng.standard_normal()
        tone = color * shade + 9.0 * rng.standard_normal(3)
        points = [(x * w, y * h)]
        for _ in range(6):
            _, turn = scene(np.array(points[-1][0] / w), np.array(points[-1][1] / h), aspect)
            points.append((points[-1][0] + math.cos(turn) * length / 6, points[-1][1] + math.sin(turn) * length / 6))
        thick = width * (0.7 + 0.6 * rng.random())
        fill = tuple(int(value) for value in np.clip(tone, 0, 255))
        for shift, share in ((0.0, 1.0), (-0.28, 1.16), (0.3, 0.84)):  # body, lit edge, shaded edge of the paint
            dx, dy = -math.sin(float(angle)) * shift * thick, math.cos(float(angle)) * shift * thick
            moved = [(px + dx, py + dy) for px, py in points]
            edge = tuple(int(min(255, value * share)) for value in fill)
            line = max(1, round(thick if shift == 0 else thick * 0.22))
            draw.line(moved, fill=edge, width=line, joint="curve")
            if shift == 0:
                for px, py in (moved[0], moved[-1]):
                    draw.ellipse((px - line / 2, py - line / 2, px + line / 2, py + line / 2), fill=edge)


def village(draw: ImageDraw.ImageDraw, size: tuple[int, int], rng: np.random.Generator) -> None:
    """Draws houses with lit windows, a church and a cypress."""
    w, h = size
    for _ in range(16):
        x, y, a = (0.28 + 0.62 * rng.random()) * w, (0.83 + 0.11 * rng.random()) * h, (0.018 + 0.014 * rng.random()) * w
        roof = ROOFS[int(rng.integers(len(ROOFS)))]
        draw.rectangle((x - a, y - a, x + a, y + 0.6 * a), fill=(70, 86, 116), outline=(16, 22, 40), width=3)
        draw.polygon([(x - 1.2 * a, y - a), (x, y - 2.0 * a), (x + 1.2 * a, y - a)], fill=roof, outline=(16, 22, 40))
        for side in (-0.45, 0.4):
            draw.rectangle((x + side * a - 4, y - 0.5 * a, x + side * a + 5, y + 3), fill=GOLD)
    x, y, a = 0.60 * w, 0.84 * h, 0.022 * w
    draw.rectangle((x - a, y - 2 * a, x + a, y + a), fill=(84, 104, 130), outline=(16, 22, 40), width=3)
    draw.polygon([(x - a, y - 2 * a), (x, y - 7 * a), (x + a, y - 2 * a)], fill=(40, 56, 88), outline=(16, 22, 40))
    for _ in range(420):
        t = rng.random()
        spread = 0.055 * math.sin(math.pi * min(1.0, 0.12 + 0.88 * t)) ** 0.8
        x = (0.165 + spread * (rng.random() - 0.5) * 1.3 + 0.012 * math.sin(9 * t)) * w
        y = (0.16 + 0.86 * t) * h
        tone = (14 + 18 * rng.random(), 30 + 32 * rng.random(), 26 + 22 * rng.random())
        lean = 0.02 * w * (rng.random() - 0.5)
        draw.line([(x, y), (x + lean, y - 0.06 * h)], fill=tuple(map(int, tone)), width=int(5 + 7 * rng.random()))


def paint(width: int = 900, height: int = 720, seed: int = 0) -> Image.Image:
    """Paints the picture at twice its size and reduces it, which smooths the strokes' edges."""
    rng = np.random.default_rng(seed)
    size = (2 * width, 2 * height)
    canvas = Image.new("RGB", size, NIGHT)
    draw = ImageDraw.Draw(canvas)
    for share, number in ((0.016, 5000), (0.0085, 9000), (0.0052, 8000)):
        strokes(draw, size, rng, share * size[0], number)
    village(draw, size, rng)
    grain = Image.fromarray(rng.integers(96, 160, (height, width), dtype=np.uint8)).filter(
        ImageFilter.GaussianBlur(0.8)
    )
    small = canvas.resize((width, height), Image.Resampling.LANCZOS)
    weave = (np.asarray(grain, float) - 128)[..., None] * 0.35
    return Image.fromarray(np.clip(np.asarray(small, float) + weave, 0, 255).astype(np.uint8))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    paint().save(parser.parse_args().output, quality=90, subsampling=0)
