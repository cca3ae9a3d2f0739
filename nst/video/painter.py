"""Paints the frames of a clip one after another, each from the results before it (Ruder et al., arXiv:1604.08610).

What is known of earlier frames is what lies in the folder, in 8 bits: so a run that is started again sees what the run
that was ended saw, and goes on to the last bit alike.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor
from torch.nn.functional import max_pool2d
from torch.optim import Optimizer

from nst.errors import InputError, shown
from nst.losses.objective import check_weight
from nst.losses.terms.temporal import TemporalTerm
from nst.many.jobs import JobRunner, make_folder
from nst.pictures import files, images
from nst.pictures.geometry import fit
from nst.pictures.images import Picture
from nst.run import record
from nst.video import flow
from nst.video.clips import Frame
from nst.video.progress import ClipProgress

log = logging.getLogger(__name__)

MADE_OF = "made_of.yaml"
"""The file in the folder of frames that says what the frames are made of."""

UNLIKE, UNSEEN, HALF = 0.35, 0.2, 0.5
"""A scene begins where fewer than UNSEEN of the pixels can be trusted, or fewer than HALF where the histograms of the
colours differ by more than UNLIKE of their mass."""

RIM, LARGE = 16, 0.01
"""A frame is made coarse to fine where shapes come into sight and not only rims: where more than LARGE of its pixels
are the middle of a square in which nothing was seen before, a RIM-th of the frame's longer side in size."""

PACE = 0.5
"""Learning rate of a frame that follows from others, as a share of the first one's: it starts near its end."""

BLEND = 0.5
"""Share of the neighbour's result, where it is trusted, in what a frame starts from in a second or later pass."""


@dataclass(frozen=True)
class Motion:
    """How frames follow from the frames before them.

    Attributes:
        reach: How many frames back the earlier frames lie, ascending; the first is the one that a frame starts from.
        temporal_weight: Weight of the temporal term, 0 or more; 0 leaves the term out.
        share: Steps of a frame after the first, as a share of the last level's steps, in (0, 1].
        passes: How often the clip is gone through: forward, and from the second on backward and forward in turns.
        flow: `dis`, `raft`, or a folder of .flo files (see `flow.chosen`).

    Raises:
        InputError: If a number is out of range.
    """

    reach: tuple[int, ...] = (1, 2, 4)
    temporal_weight: float = 3.0
    share: float = 0.6
    passes: int = 1
    flow: str = "dis"

    def __post_init__(self) -> None:
        if not self.reach or self.reach[0] < 1 or list(self.reach) != sorted(set(self.reach)):
            given = ",".join(map(str, self.reach))
            raise InputError(f"Expected --video.reach to ascend from 1 or more, such as 1,2,4, but got {given}")
        check_weight("video.temporal_weight", self.temporal_weight)
        if not 0 < self.share <= 1:
            raise InputError(f"Expected --video.share to be above 0 and at most 1, but got {self.share}")
        if self.passes < 1:
            raise InputError(f"Expected --video.passes to be 1 or more, but got {self.passes}")


@dataclass(frozen=True)
class Painted:
    """A painted frame: its number, its time in seconds, and its file."""

    number: int
    time: Fraction
    path: Path


@dataclass(frozen=True)
class _Earlier:
    """A frame that others follow from: its number, what the clip shows, and the result, (1, 3, H, W) both."""

    number: int
    clip: Tensor
    result: Tensor


class Painter:
    """Paints frames, and keeps each result in a folder as soon as it is made.

    Args:
        settings: Returns the settings of a frame (a `settings.JobCLI`), given options of its own.
        folder: The folder of the results, `000000.png` and so on.
        motion: How frames follow from the frames before them.
        sources: The files of the clip.
        facts: What else decides the frames, plain values, for the folder's note.

    Raises:
        InputError: If the folder holds frames of something else.
    """

    def __init__(
        self,
        settings: Callable[[Sequence[str]], Any],
        folder: Path,
        motion: Motion,
        sources: Sequence[Path],
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        self.runner, self.folder, self.motion = JobRunner(settings), folder, motion
        self.flow = flow.chosen(motion.flow)
        first = settings([])
        if first.config.budget is not None:
            raise InputError(
                "Expected no --budget for a clip, as frames that end by the clock flicker; give fewer --data.steps"
            )
        self.quiet = first.config.trainer.enable_progress_bar is False
        data = first.config.data
        self.size = int(data.size)
        # both hide parts of the result, which the frames after it do not see
        self.hides = data.color == "content" or any(
            getattr(region, "keep", False) for region in (data.regions or {}).values()
        )
        steps = data.steps[-1] if isinstance(data.steps, list) else data.steps
        self.steps = max(1, round(motion.share * steps))
        make_folder(folder)
        self._claim(first, sources, facts or {})

    def _claim(self, first: Any, sources: Sequence[Path], facts: Mapping[str, Any]) -> None:
        """Says in the folder what its frames are made of."""
        named = {f"file {i}": Path(x) for i, x in enumerate(sorted({x for x in first.inputs if Path(x).is_file()}))}
        named |= {f"frame {i}": x for i, x in enumerate(sources)}
        video = asdict(self.motion) | {"reach": list(self.motion.reach), **facts}
        config = {**record.settings(first.settings()), "video": video}
        now = yaml.safe_dump({"config": config, "files": {key: record.sha256(path) for key, path in named.items()}})
        note = self.folder / MADE_OF
        if not note.exists() and not any(self.folder.glob("*.png")):
            files.write_text(note, now)
        if not note.exists() or note.read_text(encoding="utf-8") != now:
            raise InputError(
                f"Expected {shown(self.folder)} to be empty or to hold frames of this clip, made with these settings, "
                "but it holds others; give another --video.folder, or remove it"
            )

    def paint(self, frames: Iterable[Frame], count: int = 0) -> Iterator[Painted]:
        """Yields the painted frames; one whose file is there is not made again.

        Args:
            frames: The frames of the clip, in order.
            count: How many these are, for the time left; 0 if that is not known.
        """
        of = f"{count} frames" if count else "Frames"
        log.info("%s, %d steps for each after the first, into %s", of, self.steps, shown(self.folder))
        progress = ClipProgress(count * self.motion.passes, self.folder, self.quiet)
        try:
            if self.motion.passes == 1:
                yield from self._forward(frames, progress)
                return
            kept = [self._kept(frame) for frame in frames]
            for number in range(1, self.motion.passes + 1):
                self._pass(kept, number, progress)
            yield from (Painted(number, time, self._path(number)) for number, time, _ in kept)
        finally:
            progress.close()

    def scenes(self, frames: Iterable[Frame]) -> list[tuple[int, int]]:
        """Finds the scenes of a clip, by its cuts: no frame follows from another scene's.

        Args:
            frames: The frames of the clip, in order.

        Returns:
            The first frame of each scene and the one after its last; empty for no frames.
        """
        begins: list[int] = []
        before: Tensor | None = None
        for frame in frames:
            fitted = self._fitted(frame.picture).rgb
            if before is None or is_cut(before, fitted):
                begins.append(frame.number)
            before, number = fitted, frame.number
        return [] if before is None else list(pairwise([*begins, number + 1]))

    def has(self, number: int) -> bool:
        """Whether a frame is painted."""
        return self._path(number).exists()

    def _forward(self, frames: Iterable[Frame], progress: ClipProgress) -> Iterator[Painted]:
        earlier = self._nothing_earlier()
        for frame in frames:
            self._make(frame, earlier, 1, progress)
            yield Painted(frame.number, frame.time, self._path(frame.number))

    def _pass(self, kept: Sequence[tuple[int, Fraction, Path]], number: int, progress: ClipProgress) -> None:
        """Goes through the whole clip: forward for odd numbers, and backward for even ones."""
        earlier = self._nothing_earlier()
        for i, time, path in kept if number % 2 else reversed(kept):
            self._make(Frame(i, time, images.load(path)), earlier, number, progress)

    def _nothing_earlier(self) -> deque[_Earlier]:
        return deque(maxlen=self.motion.reach[-1])

    def _kept(self, frame: Frame) -> tuple[int, Fraction, Path]:
        """Keeps a frame of the clip at the working size, as passes backward need frames that are gone by."""
        path = self.folder / "clip" / f"{frame.number:06d}.png"
        if not path.exists():
            make_folder(path.parent)
            picture = self._fitted(frame.picture)
            images.save(picture.rgb, path, picture.alpha)
        return frame.number, frame.time, path

    def _path(self, frame: int) -> Path:
        """Returns the file of a painted frame."""
        return self.folder / f"{frame:06d}.png"

    def _result(self, frame: Frame, number: int) -> Path:
        """Returns the file of a frame's result in a pass, which the next frames follow from.

        It is the painted frame, but for the photograph's colours, kept regions and opacity.
        """
        if number < self.motion.passes:
            return self.folder / f"pass{number}" / f"{frame.number:06d}.png"
        if self.hides or frame.picture.alpha is not None:
            return self.folder / "whole" / f"{frame.number:06d}.png"
        return self._path(frame.number)

    def _fitted(self, picture: Picture) -> Picture:
        return picture.resized(*fit(picture.height, picture.width, self.size))

    def _make(self, frame: Frame, earlier: deque[_Earlier], number: int, progress: ClipProgress) -> None:
        """Makes a frame in a pass from earlier ones, unless its files are there, and adds it to them."""
        fitted, result, path = self._fitted(frame.picture).rgb, self._result(frame, number), self._path(frame.number)
        final = number == self.motion.passes
        if earlier and self._cut_between(earlier[-1], frame.number, fitted):
            earlier.clear()
        done = result.exists() and (path.exists() or not final)
        with progress.making(frame.number, done):
            if not done:
                job = self._job(frame, fitted, earlier, number)
                self.runner.begin(job)
                if "init" in job.pictures:
                    job.model.make_optimizer = slower(job.model.make_optimizer)
                job.trainer.callbacks.append(progress)
                job.trainer.fit(job.model, datamodule=job.datamodule)
                made = job.model.shown.cpu()
                if result != path:
                    make_folder(result.parent)
                    images.save(made, result)
                if final:
                    images.save(job.datamodule.finished(made), path, job.datamodule.alpha)
        earlier.append(_Earlier(frame.number, fitted, images.load(result).rgb))

    @staticmethod
    def _cut_between(earlier: _Earlier, number: int, fitted: Tensor) -> bool:
        """Whether a scene begins at the later one of two frames, whichever of them was made first."""
        return is_cut(earlier.clip, fitted) if earlier.number < number else is_cut(fitted, earlier.clip)

    def _job(self, frame: Frame, fitted: Tensor, earlier: Sequence[_Earlier], number: int) -> Any:
        """Returns the settings of a frame, with its pictures and its temporal term."""
        job = self.runner.settings([])
        job.pictures["content"] = replace(frame.picture, name=f"frame {frame.number}")
        config, sources = job.config, [earlier[-back] for back in self.motion.reach if back <= len(earlier)]
        if not sources and number == 1:
            return job
        config.data.min_size, config.data.steps = self.size, [self.steps]
        config.model.init = config.data.init = "the frames before"  # of which `job.pictures` has the picture
        start = fitted if number == 1 else images.load(self._result(frame, number - 1)).rgb
        if sources:
            ways = [self.flow(fitted, x.clip, frame.number, x.number) for x in sources]
            ways_back = [self.flow(x.clip, fitted, x.number, frame.number) for x in sources]
            trusts = [flow.trust(*pair) for pair in zip(ways, ways_back, strict=True)]
            warped = [flow.damped(flow.warp(x.result, way)) for x, way in zip(sources, ways, strict=True)]
            weights = flow.long_term(trusts)
            if number == 1:
                seen = torch.stack(weights).sum(0)
                known = torch.stack([x * weight for x, weight in zip(warped, weights, strict=True)]).sum(0)
                start = flow.filled(fitted, known, seen)
                if hidden(seen) > LARGE:
                    config.data.min_size = max(1, self.size // 2)
            else:
                start = torch.lerp(start, warped[0], BLEND * trusts[0])
            term = TemporalTerm(warped, weights, self.motion.temporal_weight)
            config.model.terms = [*(config.model.terms or []), term]
        job.pictures["init"] = Picture(start)
        return job


def slower(make: Callable[..., Optimizer]) -> Callable[..., Optimizer]:
    """Returns what makes the same optimiser with PACE times its learning rate."""

    def made(params: Any) -> Optimizer:
        optimizer = make(params)
        for group in optimizer.param_groups:
            group["lr"] *= PACE
        return optimizer

    return made


def hidden(seen: Tensor) -> float:
    """Returns the share of pixels whose surroundings have not been seen, by a mask of what has, (1, 1, H, W)."""
    side = max(seen.shape[2:]) // RIM // 2 * 2 + 1
    return 1 - float((max_pool2d(seen, side, stride=1, padding=side // 2) > 0).float().mean())


def is_cut(before: Tensor, after: Tensor) -> bool:
    """Whether a scene begins: colours and motion both break off.

    Args:
        before: The frame before, (1, 3, H, W) in [0, 1].
        after: The frame.
    """
    seen = float(flow.trust(flow.dis(after, before), flow.dis(before, after)).mean())
    counts = [torch.stack([torch.histc(c, 16, 0, 1) for c in x[0]]) / x[0, 0].numel() for x in (before, after)]
    unlike = float((counts[0] - counts[1]).abs().sum() / 6)  # in [0, 1]
    return seen < UNSEEN or (seen < HALF and unlike > UNLIKE)
