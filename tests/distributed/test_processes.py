"""Several processes give the value and the gradient of one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nst.distributed.processes import ALONE, Processes, Share, lost
from nst.errors import LostProcessError
from nst.losses.distance import DISTANCES
from tests.distributed.group import Case, after_steps, everything, together, value_and_gradient

FLOAT32 = {"frobenius": 1e-5, "histogram": 1e-5, "mean_std": 1e-5, "wasserstein": 2e-3}
"""Tolerances of the gradient, over its norm. The root of a covariance that has fewer positions than channels magnifies
the rounding of float32 sums; in float64 it is like the others."""

CASES = [
    Case(64),
    Case(75, "zeros", "on", "histogram", True, "avg"),
    Case(93, "circular", "off", "mean_std", False, "l2"),
    Case(70, "circular", "on", "wasserstein", True, speeds=(1.0, 2.5, 1.5, 3.0)),
    Case(40, "reflect", "off", "frobenius", True),
    Case(33, "replicate", "on", "mean_std", speeds=(3.0, 1.0, 1.0, 1.0)),
]


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3, 4])
def test_processes_give_the_value_and_the_gradient_of_one(count: int, tmp_path: Path) -> None:
    """Every distance, padding and term, in memory and in bands, heights that no number divides; shares are empty too:
    33 and 40 rows are two units of 16."""
    cases = [*CASES, *(x._replace(dtype=torch.float32) for x in CASES[:4])]
    assert {case.distance for case in cases} == {*DISTANCES}
    ranks = together(count, tmp_path, everything, cases)
    for i, case in enumerate(cases):
        value, gradient = value_and_gradient(case)
        exact = case.dtype == torch.float64
        # the eigenvalues that the Gaussians' distance is found from are 1e-16 of the largest, and it takes their roots
        tight = 1e-7 if case.distance == "wasserstein" else 1e-12
        for found in ranks:
            assert torch.equal(found[f"{i}"][0], ranks[0][f"{i}"][0]) and torch.equal(
                found[f"{i}"][1], ranks[0][f"{i}"][1]
            )
        total, back = ranks[0][f"{i}"]
        loose = FLOAT32[case.distance]
        assert abs(total - value) <= (tight if exact else loose / 10) * value
        assert (back - gradient).norm() <= (tight if exact else loose) * gradient.norm()
    for found in ranks:
        for there, back in found["adjoint"]:
            assert there == pytest.approx(back, rel=1e-12)
        assert found["largest"] == count - 1
        assert found["measured"] == pytest.approx([1 / (1 + rank) for rank in range(count)])
        assert found["decided"] == (True, False)
        assert found["speeds"] == ranks[0]["speeds"] and len(found["speeds"]) == count and min(found["speeds"]) > 0


@pytest.mark.slow
def test_a_hundred_steps_of_two_processes_end_in_the_picture_of_one(tmp_path: Path) -> None:
    """In float64: in float32 a rounding error turns the sign of a step, and another number of threads does the same."""
    case = Case(64, streaming="on", regions=True)
    ranks = together(2, tmp_path, after_steps, case, 100)
    assert all(torch.equal(found, ranks[0]) for found in ranks)
    alone = after_steps(case, 100)
    assert float((alone - after_steps(case, 0)).abs().mean()) > 0.02  # it has moved
    assert float((ranks[0] - alone).abs().max()) < 1e-3


@pytest.mark.parametrize("height", [1, 15, 16, 47, 64, 333])
@pytest.mark.parametrize("count", [1, 2, 3, 7])
@pytest.mark.parametrize("speeds", [(), (1.0, 2.0, 4.0, 1.0, 1.0, 0.1, 3.0)])
def test_shares_cover_every_row_once(height: int, count: int, speeds: tuple[float, ...]) -> None:
    shares = [Processes(rank, count, 1, speeds[:count]).share(height, 16) for rank in range(count)]
    assert [row for x in shares for row in range(x.start, x.stop)] == [*range(height)]
    assert all(share.start % 16 == 0 or share.rows == 0 for share in shares)
    assert all(share.rows == 0 or share.rows >= min(16, height) for share in shares)
    deep = [share.scaled(16, height // 16) for share in shares]
    assert sum(share.rows for share in deep) == height // 16
    assert all((a.rows > 0) == (b.rows > 0) for a, b in zip(shares, deep, strict=True) if height >= 16)


def test_shares_follow_speeds() -> None:
    assert [Processes(rank, 2, 1, (1.0, 3.0)).share(64, 16).rows for rank in (0, 1)] == [16, 48]


def test_alone_there_is_nothing_to_send() -> None:
    tensor = torch.ones(2)
    assert ALONE.add(tensor) is tensor and ALONE.take_first(tensor) is tensor
    assert ALONE.share(50, 16) == Share(0, (0, 50)) and ALONE.share(50, 16).is_whole
    assert ALONE.largest(3) == 3 and ALONE.by_first(True) and ALONE.measured(1.0) is ALONE


def test_a_lost_process_is_told_in_one_line() -> None:
    with (
        pytest.raises(LostProcessError, match=r"one was lost: stopped; .* --ckpt_path last \(reset by peer\)$"),
        lost(),
    ):
        raise RuntimeError("reset by peer\nmore")
    with pytest.raises(LostProcessError, match="as it was"), lost():
        raise LostProcessError("as it was")
