"""`nst video`: a painted clip of a clip."""

from __future__ import annotations

import logging
import re
from argparse import ArgumentTypeError, Namespace
from collections.abc import Sequence
from dataclasses import fields
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nst.cli.explain import Parser
from nst.cli.settings import JobCLI
from nst.errors import InputError
from nst.many import cluster
from nst.many.jobs import told
from nst.pictures import files
from nst.run.stopping import Stop
from nst.video.extra import packages

if TYPE_CHECKING:
    from nst.video.encoding import Encoding
    from nst.video.job import ClipJob, SceneRunner

log = logging.getLogger(__name__)


def video(args: Sequence[str], stop: Stop) -> int:
    """Paints a clip, each frame from the results before it, so that it does not flicker; goes on where it was ended."""
    given, rest = _given(args)
    machines = cluster.chosen(Namespace(**given))
    with packages():
        from nst.video.clips import Video
        from nst.video.sheets import poster
    source, output = given["data.content"], Path(given["output"])
    encoding = _encoding(given)
    job = _job(given, rest, stop, encoding)
    files.check_overwrites(output, [source, *map(str, job.clip.files), *job.settings([]).inputs])
    hears = given["audio"] == "copy" and encoding.holds_sound(job.clip)
    if given["preview"] is not None:
        job.preview(given["preview"], Path(f"{output}.preview.jpg"))
    if machines is not None and not _painted_by(machines, job, args):
        return 1
    painted = list(job.paint())
    if not encoding.is_folder:
        sound = job.clip if hears and isinstance(job.clip, Video) else None
        encoding.write(painted, job.clip.rate, sound, whole=given["frames"] == (0, None))
    print(f"clip      {output}")
    sheet = Path(f"{output}.poster.jpg")
    poster([painted[i].path for i in (0, len(painted) // 2, -1)], sheet)
    print(f"poster    {sheet}")
    return 0


def scene_runner(args: Sequence[str]) -> SceneRunner:
    """Returns what paints scenes of a clip in a worker of a cluster, given the command's options."""
    given, rest = _given(args)
    with packages():
        from nst.video.job import SceneRunner
    return SceneRunner(_job(given, rest, Stop(), _encoding(given)))


def _painted_by(machines: cluster.Cluster, job: ClipJob, args: Sequence[str]) -> bool:
    """Has the scenes of a clip painted side by side, prints a line for each, and returns whether all are painted."""
    scenes = job.scenes()
    log.info("%d scenes, which are painted side by side", len(scenes))
    outcomes = list(told(machines.outcomes(scenes, scene_runner, args), len(scenes)))
    return all(found.kind != "failed" for _, found in outcomes)


def _given(args: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Returns the command's own options, by name without `video.`, and the others."""
    parser = Parser("nst video", description=video.__doc__, allow_abbrev=False, epilog="All flags of nst fit hold too.")
    add = parser.add_argument
    add("--data.content", required=True, help="A video, a GIF, a folder of frames, or a pattern with *.")
    add("--output", required=True, help="The painted clip: .mp4, .mov, .mkv, .webm, .gif or .webp; or a folder.")
    add("--video.frames", type=_range, default=(0, None), help="Which frames, counted from 0, such as 100:200.")
    add("--video.rate", type=_rate, help="Frames a second of a folder or a pattern; 25 by default.")
    add("--video.folder", help="Where painted frames are kept as they are made; OUTPUT.frames by default.")
    add("--video.temporal_weight", type=float, help="How strongly a frame is drawn to the frames before it.")
    add("--video.reach", type=_reach, help="How many frames back these lie, such as 1,2,4.")
    add("--video.share", type=float, help="Steps of a frame after the first, as a share of the last level's.")
    add("--video.passes", type=int, help="How often the clip is gone through, forward and backward in turns.")
    add("--video.flow", help="Optical flow: dis, raft, or a folder of .flo files.")
    add("--video.preview", type=int, metavar="N", help="First paint every Nth frame at half the size.")
    add("--video.codec", help="FFmpeg's encoder, such as libx265; H.264 by default, VP9 in .webm.")
    add("--video.quality", type=int, help="The encoder's crf: lower is better, and larger.")
    add("--video.pixel_format", help="FFmpeg's pixel format, such as yuv444p; yuv420p by default.")
    add("--video.audio", choices=["copy", "none"], default="copy", help="Whether the sound is copied, untouched.")
    add("--video.alpha", choices=["keep", "none"], default="keep", help="Whether transparency is kept.")
    cluster.add_flags(parser)
    known, rest = parser.parse_known_args(list(args))
    return {name.removeprefix("video."): x for name, x in vars(known).items()}, rest


def _encoding(given: dict[str, Any]) -> Encoding:
    with packages():
        from nst.video.encoding import Encoding
    return Encoding(Path(given["output"]), given["codec"], given["quality"], given["pixel_format"])


def _job(given: dict[str, Any], rest: Sequence[str], stop: Stop, encoding: Encoding) -> ClipJob:
    with packages():
        from nst.video.clips import open_clip
        from nst.video.job import ClipJob, over_white
        from nst.video.painter import Motion
    source, output = given["data.content"], Path(given["output"])
    motion = Motion(**{field.name: given[field.name] for field in fields(Motion) if given[field.name] is not None})
    maker = JobCLI.maker([*rest, f"--data.content={source}"], stop)
    clip = open_clip(source, given["rate"], int(maker([]).config.data.max_pixels))
    if encoding.is_folder and given["folder"] is not None:
        raise InputError(f"Expected no --video.folder where --output is a folder, {output}, which has the frames")
    folder = output if encoding.is_folder else Path(given["folder"] or f"{output}.frames")
    seen = over_white if given["alpha"] == "none" else encoding.checked
    return ClipJob(maker, clip, folder, motion, given["frames"], seen)


def _range(text: str) -> tuple[int, int | None]:
    found = re.fullmatch(r"(\d*):(\d*)", text)
    first, last = (int(x) if x else None for x in found.groups()) if found else (1, 0)
    if last is not None and last <= (first or 0):
        raise ArgumentTypeError(f"expected frames such as 100:200, but got {text}")
    return first or 0, last


def _reach(text: str) -> tuple[int, ...]:
    if not re.fullmatch(r"\d+(,\d+)*", text):
        raise ArgumentTypeError(f"expected numbers of frames such as 1,2,4, but got {text}")
    return tuple(int(x) for x in text.split(","))


def _rate(text: str) -> Fraction:
    try:
        rate = Fraction(text)
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if not 0 < rate <= 1000:
        raise ArgumentTypeError(f"expected frames a second such as 25 or 30000/1001, but got {text}")
    return rate
