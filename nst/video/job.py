"""A clip to paint: which frames of it, how, and into which folder."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from nst.errors import InputError, shown
from nst.many.jobs import Job, Outcome, failure
from nst.pictures.images import Picture
from nst.video.clips import Clip, Frame
from nst.video.painter import Motion, Painted, Painter
from nst.video.sheets import poster

log = logging.getLogger(__name__)


def keep(picture: Picture) -> Picture:
    """Returns a frame as it is."""
    return picture


def over_white(picture: Picture) -> Picture:
    """Returns a frame without its transparency, on white."""
    if picture.alpha is None:
        return picture
    return replace(picture, rgb=picture.rgb * picture.alpha + 1 - picture.alpha, alpha=None)


@dataclass(frozen=True)
class ClipJob:
    """A clip to paint.

    Attributes:
        settings: Returns the settings of a frame (a `settings.JobCLI`), given options of its own.
        clip: The clip.
        folder: The folder of the painted frames.
        motion: How frames follow from the frames before them.
        frames: The first frame, counted from 0, and the one after the last; None for all that follow.
        seen: What is done to each frame before it is painted; it may raise an InputError.
    """

    settings: Callable[[Sequence[str]], Any]
    clip: Clip
    folder: Path
    motion: Motion
    frames: tuple[int, int | None] = (0, None)
    seen: Callable[[Picture], Picture] = keep

    def paint(self) -> Iterator[Painted]:
        """Yields the painted frames as they are made; one that is in the folder is not made again.

        Raises:
            InputError: If the clip or the settings cannot be used.
            RunError: If a run cannot go on, or a frame cannot be written.
        """
        count = 0
        try:
            for painted in self._whole.paint(self._frames(), self._count()):
                count += 1
                yield painted
        except KeyboardInterrupt:
            log.info("%d painted frames are kept in %s: the same command goes on from there", count, shown(self.folder))
            raise
        if not count:
            raise self._ends_before()

    def scenes(self) -> list[Job]:
        """Returns the clip's scenes as jobs that may be done side by side (see SceneRunner).

        Raises:
            InputError: If the clip or the settings cannot be used.
        """
        found = self._whole.scenes(self._frames())
        if not found:
            raise self._ends_before()
        return [Job(f"frames {a} to {b - 1}", [f"{a}:{b}"], self.folder / f"{a:06d}.png") for a, b in found]

    def paint_scene(self, first: int, end: int) -> bool:
        """Paints a scene; a frame that is in the folder is not made again.

        Args:
            first: The scene's first frame, counted from 0 in the clip.
            end: The frame after its last.

        Returns:
            Whether anything was left to paint.

        Raises:
            InputError: If the clip or the settings cannot be used.
            RunError: If a run cannot go on, or a frame cannot be written.
        """
        if all(self._whole.has(number) for number in range(first, end)):
            return False
        for _ in self._whole.paint((frame for frame in self._frames(end) if frame.number >= first), end - first):
            pass
        return True

    def _ends_before(self) -> InputError:
        return InputError(f"Expected --video.frames to be frames of the clip, but it ends before {self.frames[0]}")

    def preview(self, every: int, sheet: Path) -> None:
        """Paints every so many frames at half the size, and lays them out on a sheet.

        Raises:
            InputError: If `every` is not 1 or more.
        """
        if every < 1:
            raise InputError(f"Expected --video.preview to be 1 or more, but got {every}")
        half = max(1, int(self.settings([]).config.data.size) // 2)
        motion = replace(self.motion, passes=1, flow="raft" if self.motion.flow == "raft" else "dis")
        folder = self.folder / f"preview{every}"
        painter = self._painter(lambda options: self.settings([*options, f"--data.size={half}"]), folder, motion)
        painted = list(painter.paint(islice(self._frames(), 0, None, every), -(-self._count() // every)))
        if painted:
            poster([x.path for x in painted], sheet)
            log.info("The preview is in %s", shown(sheet))

    @cached_property
    def _whole(self) -> Painter:
        """The painter of the clip, at its whole size, which keeps its network from scene to scene."""
        return self._painter(self.settings, self.folder, self.motion)

    def _painter(self, settings: Callable[[Sequence[str]], Any], folder: Path, motion: Motion) -> Painter:
        first, last = self.frames
        # the first frame follows from none, and so does the last one where a pass goes backward
        frames = [first, last if motion.passes > 1 else None]
        facts = {"frames": frames, "alpha": "none" if self.seen is over_white else "keep"}
        return Painter(settings, folder, motion, self.clip.files, facts)

    def _count(self) -> int:
        """Returns how many frames these are, as far as is known; 0 for unknown."""
        first, last = self.frames
        return max(0, (min(last, self.clip.length) if last and self.clip.length else self.clip.length) - first)

    def _frames(self, end: int | None = None) -> Iterator[Frame]:
        for frame in islice(self.clip.frames(), self.frames[0], end or self.frames[1]):
            yield replace(frame, picture=self.seen(frame.picture))


class SceneRunner:
    """Paints scenes of a clip in a worker of a cluster, each into the clip's folder.

    Args:
        clip: The clip.
    """

    def __init__(self, clip: ClipJob) -> None:
        self.clip = clip

    def outcome(self, job: Job) -> Outcome:
        """Paints a scene unless it is painted; one scene's failure, whatever it is, must not end the others."""
        begun = time.monotonic()
        try:
            painted = self.clip.paint_scene(*map(int, job.options[0].split(":")))
        except Exception as error:
            return failure(job, error)
        if not painted:
            return Outcome("skipped", f"skipped  {job.name}: painted already, in {self.clip.folder}")
        return Outcome("made", f"made     {job.name}: in {self.clip.folder}, {time.monotonic() - begun:.1f} s")
