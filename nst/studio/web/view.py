"""What the page shows of a run: the picture, where the run is, its curve, and what can be taken away."""

from __future__ import annotations

import base64
import math
from html import escape

from nst.studio.run import STEERED, Run

COLORS = {"total": "var(--nst-total)", "content": "var(--nst-content)", "style": "var(--nst-style)"}
WORDS = {
    "waiting": "Waiting",
    "starting": "Getting ready",
    "painting": "Painting",
    "paused": "Paused",
    "done": "Done",
    "stopped": "Stopped",
    "failed": "Failed",
}
FORMATS = {"png": "PNG", "jpg": "JPEG", "webp": "WebP", "tif": "TIFF, 16 bits"}
EMPTY = "Your picture grows here. Paint makes one of the samples, or of your own photograph and paintings."


def address(run: Run, name: str) -> str:
    """Returns the address of a file of a run."""
    return f"/studio/runs/{run.token}/{name}"


def canvas(run: Run | None) -> str:
    """Returns the picture: as it is while it grows, and the result."""
    if run is None:
        inner, percent = f'<p class="nst-empty">{EMPTY}</p>', ""
    else:
        percent = f"{_done(run):.0%}" if not run.over else WORDS[run.state]
        source = _source(run)
        text = f"The picture, {WORDS[run.state].lower()}"
        inner = f'<p class="nst-empty">{WORDS[run.state]} …</p>' if source is None else ""
        inner = inner or f'<img id="nst-picture" data-look="{run.looks}" alt="{text}" src="{source}">'
    return f'<div class="nst-canvas" data-percent="{percent}">{inner}</div>'


def status(run: Run | None, place: int = 0, expected: float | None = None) -> str:
    """Returns where a run is, in words and as a bar.

    Args:
        run: The run; None for none.
        place: How many wait before it.
        expected: Seconds until it is expected to be done.
    """
    if run is None:
        return '<div class="nst-status"><p role="status">Ready.</p></div>'
    figures, words = run.figures, [WORDS[run.state]]
    if run.state == "waiting":
        words.append(f"{place} before it" if place else "next")
    if "level" in figures and not run.over:
        words.append(f"level {figures['level']} of {figures['levels']}")
    if "width" in figures:
        words.append(f"{figures['width']}×{figures['height']} pixels")
    rest = [f"step {figures['step']}"] if "step" in figures and not run.over else []
    if expected is not None and not run.over:
        rest.append(f"{clock(expected)} left")
    if run.over and run.begun is not None and run.ended is not None:
        rest.append(f"in {clock(run.ended - run.begun)}")
    message = f'<p class="nst-message" role="alert">{escape(run.message)}</p>' if run.message else ""
    done = 1.0 if run.state == "done" else _done(run)
    return (
        f'<div class="nst-status" data-state="{run.state}"><p><span role="status">{", ".join(words)}</span>'
        f"<span>{', '.join(rest)}</span></p>"
        f'<progress aria-label="Share that is done" max="1" value="{done:.3f}"></progress>{message}{changed(run)}'
        f"{curve(run)}</div>"
    )


def changed(run: Run) -> str:
    """Returns the settings that the last change has set, and since when; nothing where there is none."""
    found = [x for x in run.changes if x.keys() & STEERED]
    if not found:
        return ""
    words = [
        f"{name.replace('_', ' ')} {value:g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in found[-1].items()
        if name in STEERED
    ]
    return f'<p role="status"><span>Changed: {", ".join(words)}</span><span>since step {found[-1]["step"]}</span></p>'


def curve(run: Run) -> str:
    """Returns the losses over the steps, on a logarithmic scale."""
    width, height = 600, 90
    names = [x for x in COLORS if any(x in losses for _, losses in run.curve)]
    values = [y for _, losses in run.curve for y in losses.values() if y > 0]
    if len(run.curve) < 2 or not values:
        return '<div class="nst-curve"></div>'
    low, high = math.log(min(values)), math.log(max(values))
    last = run.curve[-1][0]

    def line(name: str) -> str:
        points = [
            f"{width * step / last:.1f},{height * (high - math.log(losses[name])) / max(high - low, 1e-9):.1f}"
            for step, losses in run.curve
            if losses.get(name, 0) > 0
        ]
        return f'<polyline points="{" ".join(points)}" style="stroke:{COLORS[name]}"/>'

    legend = "".join(
        f'<li style="--line:{COLORS[name]}">{name} {run.curve[-1][1].get(name, 0):.3g}</li>' for name in names
    )
    return (
        f'<div class="nst-curve"><svg viewBox="0 -4 {width} {height + 8}" preserveAspectRatio="none" role="img" '
        f'aria-label="Losses over {last} steps">{"".join(map(line, names))}</svg><ul>{legend}</ul></div>'
    )


def downloads(run: Run | None) -> str:
    """Returns links to the picture in every format."""
    if run is None or run.state not in ("done", "stopped") or not (run.order.folder / "picture.png").exists():
        return "<p>The picture can be taken away here when it is done.</p>"
    links = [
        f'<li><a id="nst-{x}" href="{address(run, f"picture.{x}")}" download="picture.{x}">{name}</a></li>'
        for x, name in FORMATS.items()
    ]
    return f'<ul class="nst-links">{"".join(links)}</ul>'


def clock(seconds: float) -> str:
    """Writes a time as minutes and seconds."""
    whole = max(0, round(seconds))
    return f"{whole // 60}:{whole % 60:02d}"


def _done(run: Run) -> float:
    return float(run.figures.get("done", 0.0))


def _source(run: Run) -> str | None:
    if run.state in ("done", "stopped") and (run.order.folder / "picture.png").exists():
        return address(run, "picture.png")
    if run.preview is None:
        return None
    return f"data:image/jpeg;base64,{base64.b64encode(run.preview).decode()}"
