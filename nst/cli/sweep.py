"""`nst sweep`: pictures of a grid of settings, laid out on one sheet to compare."""

from __future__ import annotations

import itertools
import os
import re
import shlex
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml
from PIL import Image, ImageDraw, ImageFont

from nst.cli.batch import job_runner
from nst.cli.explain import Parser
from nst.cli.settings import JobCLI
from nst.errors import InputError
from nst.many import cluster
from nst.many.jobs import Job, JobRunner
from nst.pictures import files, images
from nst.run.stopping import Stop


def sweep(args: Sequence[str], stop: Stop) -> int:
    """Makes a picture for each combination of flags' values, given with commas, and a sheet of all the pictures."""
    parser = Parser(
        "nst sweep",
        description=sweep.__doc__,
        allow_abbrev=False,
        epilog="Flags of nst fit, with one value or several: --model.style_weight 1,10,100 --data.style a.jpg,b.jpg. "
        "The first with several goes across the sheet, the others down. Commas inside brackets separate nothing.",
    )
    parser.add_argument("--output", required=True, help="The sheet; its pictures are kept in a folder of its name.")
    cluster.add_flags(parser)
    known, rest = parser.parse_known_args(list(args))
    machines = cluster.chosen(known)
    output, fixed, axes = Path(known.output), *swept(rest)
    files.check_output(output)
    folder = output.with_suffix("")
    jobs = _cells(axes, folder)
    runner = JobRunner(JobCLI.maker(fixed, stop))
    read = [
        *runner.settings(jobs[0].options).inputs,
        *itertools.chain(*axes.values()),
        *(str(job.output) for job in jobs),
    ]
    files.check_overwrites(output, read)
    failed = runner.work(jobs, machines.outcomes(jobs, job_runner, fixed) if machines else None)
    sheet = images.decode(lay_out(jobs, failed, axes)).rgb
    images.save(sheet, output, metadata=yaml.safe_dump({"command": shlex.join(["nst", "sweep", *args])}))
    print(f"sheet     {output}")
    return 1 if failed else 0


def split(text: str) -> list[str]:
    """Splits a text at commas outside brackets and quotes: `1,10` into two parts, `{a: 1, b: 2}` into one."""
    parts, depth, quote = [""], 0, ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        depth += 0 if quote else (letter in "[{(") - (letter in "]})")
        if letter == "," and depth == 0 and not quote:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


def swept(args: Sequence[str]) -> tuple[list[str], dict[str, list[str]]]:
    """Separates options with one value from options with several values.

    Returns:
        The options with one value, unchanged; and the values of each other flag, in order.

    Raises:
        InputError: If no option has several values.
    """
    words = [word for arg in args for word in (arg.split("=", 1) if re.match(r"--[\w.]+=", arg) else [arg])]
    fixed: list[str] = []
    axes: dict[str, list[str]] = {}
    for flag, value in zip(words, [*words[1:], ""], strict=True):
        if flag.startswith("--") and flag != "--config" and len(values := split(value)) > 1:
            axes[flag] = values
    rest = iter(words)
    for word in rest:
        if word in axes:
            next(rest)
        else:
            fixed.append(word)
    if not axes:
        raise InputError("Expected a flag with several values, such as --model.style_weight 1,10,100, but got none")
    return fixed, axes


def points(axes: dict[str, list[str]]) -> Iterator[dict[str, str]]:
    """Yields every combination of values, row by row; the values of the first flag go across each row."""
    across, *down = axes
    for values in itertools.product(*(axes[flag] for flag in down), axes[across]):
        yield dict(zip([*down, across], values, strict=True))


def lay_out(jobs: Sequence[Job], failed: Sequence[Job], axes: dict[str, list[str]]) -> Image.Image:
    """Draws the pictures as a grid on white, with the values beside and above it; a failed picture is a grey box."""
    across, *down = axes
    columns = len(axes[across])
    tops = [_label({across: value}) for value in axes[across]]
    sides = [_label(dict(zip(down, values, strict=True))) for values in itertools.product(*(axes[x] for x in down))]
    pictures = [None if job in failed else Image.open(job.output).convert("RGBA") for job in jobs]
    sizes = [picture.size for picture in pictures if picture is not None] or [(256, 256)]
    width, height = max(w for w, _ in sizes), max(h for _, h in sizes)
    font = ImageFont.load_default(size=max(12, width // 24))
    line = round(1.6 * font.size)  # type: ignore[union-attr]  # Pillow has FreeType, or this is its plain font
    gap, left = line // 3, max(round(font.getlength(side)) for side in sides) + line
    sheet = Image.new("RGB", (left + columns * (width + gap), line + len(sides) * (height + gap)), "white")
    draw = ImageDraw.Draw(sheet)
    for column, text in enumerate(tops):
        draw.text((left + column * (width + gap) + width // 2, line // 2), text, "black", font, anchor="mm")
    for row, text in enumerate(sides):
        draw.text((left // 2, line + row * (height + gap) + height // 2), text, "black", font, anchor="mm")
    for i, picture in enumerate(pictures):
        x, y = left + i % columns * (width + gap), line + i // columns * (height + gap)
        if picture is not None:
            sheet.paste(picture, (x, y), picture)
        else:
            draw.rectangle((x, y, x + width - 1, y + height - 1), "lightgray")
            draw.text((x + width // 2, y + height // 2), "failed", "black", font, anchor="mm")
    return sheet


def _cells(axes: dict[str, list[str]], folder: Path) -> list[Job]:
    """Returns the jobs of a sheet, each with a distinct file name that tells the picture's values."""
    jobs: dict[str, Job] = {}
    for point in points(axes):
        values = " ".join(f"{flag.rpartition('.')[2]}={value}" for flag, value in point.items())
        name = re.sub(r"[^\w.=+-]+", "_", values)
        if len(os.fsencode(name)) > 150 or name.casefold() in jobs:
            name = f"{os.fsencode(name)[:140].decode(errors='ignore')}-{zlib.crc32(os.fsencode(values)):08x}"
        options = [f"{flag}={value}" for flag, value in point.items()]
        jobs[name.casefold()] = Job(_label(point), options, folder / f"{name}.png")
    return [*jobs.values()]


def _label(point: dict[str, str]) -> str:
    """Returns the values as text for people: `style_weight 10, style a.jpg`."""
    return ", ".join(
        f"{flag.lstrip('-').rpartition('.')[2]} {Path(value).name if Path(value).is_file() else value}"
        for flag, value in point.items()
    )
