"""Style transfer in one call: of a picture, and of a clip."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from PIL import Image

from nst.cli.settings import DEFAULT, KNOWN, JobCLI
from nst.errors import InputError, nearest
from nst.machine.quiet import quiet_libraries
from nst.pictures import images
from nst.run.flags import check
from nst.run.live import Live
from nst.scene.styles import Region, Style
from nst.video.extra import packages

Source = str | os.PathLike[str] | Image.Image

LINKED = {"init", "tile", "budget"}
"""Settings of the data that follow others: those of the model, and `budget`, which is the whole run's."""


def stylize(
    content: Source,
    style: Source | Style | Sequence[Source | Style],
    *,
    preset: str | os.PathLike[str] | None = DEFAULT,
    seed: int = 0,
    progress: bool = False,
    trainer: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Image.Image:
    """Turns a photograph and a painting into a picture, as `nst fit` does with the same settings.

    Args:
        content: The photograph, a path or a Pillow image.
        style: The painting, a path or a Pillow image, or an `nst.Style`; or several of them.
        preset: The preset, or the path of a config, that the settings change; None for the plain method of Gatys et al.
        seed: Seed of the noise that a picture may start from; torch's generator is left as it was.
        progress: Whether to show the run as it goes on: the picture so far in a notebook's cell, elsewhere a bar.
        trainer: Settings of the Lightning Trainer, such as `{"accelerator": "cpu", "precision": "32-true"}`.
        **settings: Any setting of StyleTransfer or PictureData, such as `size=1024`, `steps=[200, 100]`, `afar=256`,
            `style_weight=20`, `init="noise"` or `regions={"sky": "sky.png"}`, and `budget`, such as `"60s"`. An
            optimiser or a schedule may be a function, and terms may be objects.

    Returns:
        The picture, with the photograph's transparency if it has any.

    Raises:
        InputError: If the pictures or settings cannot be used.
        RunError: If the run cannot go on.
    """
    at_hand = {"content": images.decode(content, "content")} if isinstance(content, Image.Image) else {}
    with quiet_libraries(), torch.random.fork_rng():
        run = _run(content, style, preset, seed, trainer, settings)
        run.pictures |= at_hand
        if progress:
            given = run.trainer_objects.get("callbacks") or []
            run.trainer_objects["callbacks"] = [*(given if isinstance(given, list) else [given]), Live()]
        run.begin()
        run.trainer.fit(run.model, datamodule=run.datamodule)
    return images.encode(run.datamodule.finished(run.model.shown), run.datamodule.alpha)


def stylize_video(
    content: str | os.PathLike[str],
    style: Source | Style | Sequence[Source | Style],
    *,
    folder: str | os.PathLike[str],
    frames: slice = slice(None),
    motion: Mapping[str, Any] | None = None,
    preset: str | os.PathLike[str] | None = DEFAULT,
    seed: int = 0,
    trainer: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Iterator[Image.Image]:
    """Paints a clip as `nst video` does with the same settings, and yields each frame as soon as it is made.

    Args:
        content: The clip: a video, an animated GIF or WebP, a folder of frames, or a pattern with `*`.
        style: The painting, or several of them, as for `stylize`.
        folder: The folder in which the painted frames are kept; one that is there is not made again.
        frames: Which frames, such as `slice(100, 200)`.
        motion: Settings of `nst.video.painter.Motion`, such as `{"temporal_weight": 50, "passes": 3}`.
        preset: As for `stylize`.
        seed: As for `stylize`.
        trainer: As for `stylize`.
        **settings: As for `stylize`.

    Yields:
        The painted frames, in order.

    Raises:
        InputError: If the clip or the settings cannot be used, or the packages of the extra `video` are not installed.
        RunError: If a run cannot go on, or a frame cannot be written.
    """
    with packages():
        from nst.video.clips import open_clip
        from nst.video.job import ClipJob
        from nst.video.painter import Motion
    if frames.step not in (None, 1) or min(frames.start or 0, frames.stop or 0) < 0:
        raise InputError(f"Expected frames to be a slice such as slice(100, 200), but got {frames}")
    chosen = Motion(**dict(motion or {}))

    silent = {"enable_progress_bar": False, **(trainer or {})}

    def frame(options: Sequence[str]) -> JobCLI:
        return _run(content, style, preset, seed, silent, settings, options)

    with quiet_libraries(), torch.random.fork_rng():
        clip = open_clip(os.fspath(content), max_pixels=int(frame([]).config.data.max_pixels))
        painted = ClipJob(frame, clip, Path(folder), chosen, (frames.start or 0, frames.stop)).paint()
    while True:
        with quiet_libraries(), torch.random.fork_rng():
            made = next(painted, None)
        if made is None:
            return
        with Image.open(made.path) as image:
            image.load()
        yield image


def _run(
    content: Source,
    style: Source | Style | Sequence[Source | Style],
    preset: str | os.PathLike[str] | None,
    seed: int,
    trainer: Mapping[str, Any] | None,
    settings: Mapping[str, Any],
    options: Sequence[str] = (),
) -> JobCLI:
    """Returns the settings of a picture, with the paintings that are at hand, and seeds torch's generator."""
    trainer = dict(trainer or {})
    check(trainer)
    styles = [style] if isinstance(style, (str, os.PathLike, Image.Image, Style)) else list(style)
    roles = [f"style[{i}]" if len(styles) > 1 else "style" for i in range(len(styles))]
    written, objects = _grouped({**settings, "content": content, "style": styles})
    written |= {"trainer": {key: value for key, value in trainer.items() if _is_plain(value)}, "seed_everything": False}
    start = "{}" if preset is None else os.fspath(preset)
    run = JobCLI(["--config", start, "--config", yaml.safe_dump(written), *options], "nst.stylize", "")
    for name, value in objects.items():
        run.config.model[name] = value
    pairs = zip(roles, styles, strict=True)
    run.pictures = {role: images.decode(x, role) for role, x in pairs if isinstance(x, Image.Image)}
    run.trainer_objects = {key: value for key, value in trainer.items() if key != "precision"}
    torch.manual_seed(seed)
    return run


def _grouped(settings: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns settings as a config has them, and those of the model that are objects."""
    written: dict[str, Any] = {"model": {}, "data": {}}
    objects: dict[str, Any] = {}
    data = KNOWN["data"] - LINKED
    for name, value in settings.items():
        value = _plain(value)
        if name == "budget":
            written[name] = value
        elif name in data:
            written["data"][name] = value
        elif name in KNOWN["model"] and _is_plain(value):
            written["model"][name] = value
        elif name in KNOWN["model"]:
            objects[name] = value
        else:
            known = [*KNOWN["model"], *data, "budget", "preset", "seed", "progress", "trainer"]
            raise InputError(f"Expected settings of nst.stylize, but got {name}{nearest(name, known)}")
    return written, objects


def _plain(value: Any) -> Any:
    """Returns a setting as YAML has it: paths as texts, and a picture that is at hand as one that nobody reads."""
    if isinstance(value, Image.Image):
        return "sample"
    if isinstance(value, os.PathLike):
        return str(os.fspath(value))
    if isinstance(value, (Style, Region)):
        return {name: _plain(x) for name, x in vars(value).items() if x is not None}
    if isinstance(value, (list, tuple)):
        return [_plain(x) for x in value]
    if isinstance(value, Mapping):
        return {name: _plain(x) for name, x in value.items()}
    # of a number's or a text's own kind, as `Pixels` is
    return next((kind(value) for kind in (bool, int, float, str) if isinstance(value, kind)), value)


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, dict)):
        return all(_is_plain(x) for x in (value.values() if isinstance(value, dict) else value))
    return value is None or isinstance(value, (bool, int, float, str))
