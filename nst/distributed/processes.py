"""The processes that make one picture together, each of which answers for a share of its rows.

Losses are functions of sums over positions: the sums of all processes are added, and so are the gradients of the
picture, which every process holds whole. Nothing else is sent but rows next to the border of a share (see
`streaming/borders.py`), a process's opinion on whether to go on, and the picture at the start of a level.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from nst.errors import LostProcessError, RunError

Shares = Literal["even", "measured"]
"""How processes share the rows of a picture: the same number for each, or more for those that are faster."""


class Share(NamedTuple):
    """The rows of a layer, or of a stage's input, that a process answers for.

    Attributes:
        rank: The process.
        bounds: The rows at which the shares of all processes begin, in order of rank, and the number of all rows.
    """

    rank: int
    bounds: tuple[int, ...]

    @property
    def start(self) -> int:
        """The first row."""
        return self.bounds[self.rank]

    @property
    def stop(self) -> int:
        """The row after the last row."""
        return self.bounds[self.rank + 1]

    @property
    def height(self) -> int:
        """The number of rows of all processes."""
        return self.bounds[-1]

    @property
    def rows(self) -> int:
        """The number of rows of the share."""
        return self.stop - self.start

    @property
    def own(self) -> slice:
        """The share, as a slice of all rows."""
        return slice(self.start, self.stop)

    @property
    def is_whole(self) -> bool:
        """Whether the share is all rows."""
        return self.rows == self.height

    def of(self, rank: int) -> Share:
        """Returns the share of another process."""
        return self._replace(rank=rank)

    def scaled(self, stride: int, height: int) -> Share:
        """Returns the share of a layer whose positions are `stride` rows apart, given the number of its rows."""
        last = self.bounds[-1]
        return self._replace(bounds=tuple(height if row == last else row // stride for row in self.bounds))


@dataclass(frozen=True)
class Processes:
    """The processes of a run, as one of them sees them; by default it is alone.

    Attributes:
        rank: This process, from 0.
        count: The number of processes.
        local: The number of processes on this machine, which share its memory.
        speeds: How fast the processes are, in order of rank, from which the shares follow; empty for equally fast.

    Each method but `share` has to be called by all processes, in the same order.
    """

    rank: int = 0
    count: int = 1
    local: int = 1
    speeds: tuple[float, ...] = ()

    def share(self, height: int, unit: int) -> Share:
        """Cuts the rows of a picture into shares.

        Args:
            height: Rows of the picture.
            unit: Every share but the last has a multiple of so many rows: the rows of a position of the deepest layer.

        Returns:
            This process's share; some are empty if there are more processes than units.
        """
        units, speeds = max(1, height // unit), self.speeds or (1.0,) * self.count
        ends = (round(units * sum(speeds[: rank + 1]) / sum(speeds)) for rank in range(self.count))
        return Share(self.rank, (0, *(height if end == units else end * unit for end in ends)))

    def add(self, tensor: Tensor) -> Tensor:
        """Adds the tensors of all processes, in place, and returns the sum: the same bits in each process."""
        if self.count > 1:
            with lost():
                dist.all_reduce(tensor)
        return tensor

    def gather(self, tensor: Tensor) -> list[Tensor]:
        """Returns the tensors of all processes, which have one shape, in order of rank."""
        parts = [torch.empty_like(tensor) for _ in range(self.count)]
        with lost():
            dist.all_gather(parts, tensor.contiguous())
        return parts

    def take_first(self, tensor: Tensor) -> Tensor:
        """Replaces a tensor, in place, by that of the first process, and returns it."""
        if self.count > 1:
            with lost():
                dist.broadcast(tensor, 0)
        return tensor

    def swap(self, outgoing: Mapping[int, Tensor], incoming: Mapping[int, Tensor]) -> None:
        """Sends tensors to other processes, and receives tensors from others, in place.

        Args:
            outgoing: A tensor for each process that gets one, by rank.
            incoming: A tensor, contiguous, for each process that sends one, by rank; to be overwritten.
        """
        sends = [dist.P2POp(dist.isend, tensor.contiguous(), rank) for rank, tensor in outgoing.items()]
        receives = [dist.P2POp(dist.irecv, tensor, rank) for rank, tensor in incoming.items()]
        if sends or receives:
            with lost():
                for work in dist.batch_isend_irecv([*sends, *receives]):
                    work.wait()

    def largest(self, value: float) -> float:
        """Returns the largest of the processes' numbers."""
        if self.count == 1:
            return value
        found = torch.tensor(float(value), device=_device())
        with lost():
            dist.all_reduce(found, dist.ReduceOp.MAX)
        return float(found)

    def by_first(self, decision: bool) -> bool:
        """Returns what the first process has decided."""
        return self.largest(decision and self.rank == 0) > 0

    def measured(self, seconds: float) -> Processes:
        """Returns these processes with speeds that follow from the seconds that each has taken for the same work."""
        if self.count == 1:
            return self
        taken = torch.zeros(self.count, device=_device())
        taken[self.rank] = seconds
        return Processes(self.rank, self.count, self.local, tuple((1 / self.add(taken)).tolist()))


ALONE = Processes()


@contextmanager
def lost() -> Iterator[None]:
    """Turns the errors of torch.distributed into a LostProcessError."""
    try:
        yield
    except RunError:
        raise
    except RuntimeError as error:
        raise LostProcessError(lost_message(str(error).strip().partition("\n")[0])) from error


def lost_message(reason: str = "it has ended") -> str:
    """Returns what a person is told where a process was lost, in one line."""
    return (
        "Expected all processes of the run to go on, but one was lost: stopped; go on from the last checkpoint with "
        f"--ckpt_path last ({reason[:200]})"
    )


def _device() -> Any:
    """Returns the device on which processes send small values to each other."""
    return torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else torch.device("cpu")
