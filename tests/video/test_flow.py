"""Optical flow: shifts that are known, what is seen twice, and files of flows."""

from __future__ import annotations

import struct
import urllib.error
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nst.errors import InputError
from nst.video import flow
from tests.video.conftest import moved


def test_the_flow_of_a_shift_is_found_and_undone_by_a_warp() -> None:
    before, after = moved(0), moved(3, 1)
    back, forth = flow.dis(after, before), flow.dis(before, after)
    assert back[0, 0, 16:-16, 16:-16].mean() == pytest.approx(3, abs=0.2)
    assert back[0, 1, 16:-16, 16:-16].mean() == pytest.approx(1, abs=0.2)
    seen = flow.trust(back, forth)
    assert seen[..., -1].sum() == 0 and seen[..., 16:-16, 16:-16].mean() > 0.9
    assert (seen * (flow.warp(before, back) - after).square()).mean() < 1e-4
    assert (before - after).square().mean() > 1e-3


def test_small_frames_have_a_flow() -> None:
    assert flow.dis(moved(0, 0, 12, 9), moved(1, 0, 12, 9)).shape == (1, 2, 12, 9)


def test_a_warp_by_whole_pixels_is_exact() -> None:
    picture = torch.rand(1, 2, 6, 7, generator=torch.Generator().manual_seed(0))
    way = torch.tensor([2.0, -1.0]).view(1, 2, 1, 1).expand(1, 2, 6, 7)
    warped = flow.warp(picture, way)
    torch.testing.assert_close(warped[..., 1:, :-2], picture[..., :-1, 2:], rtol=0, atol=1e-5)
    # beyond the border is the border
    torch.testing.assert_close(warped[..., 0, :-2], picture[..., 0, 2:], rtol=0, atol=1e-5)


def test_a_warp_by_parts_of_pixels_keeps_a_picture_sharp() -> None:
    picture, part = moved(0), torch.full((1, 2, 64, 96), 0.5)
    there_and_back = picture
    for i in range(10):
        there_and_back = flow.warp(there_and_back, part * (-1) ** i)
    inner = (slice(None), slice(None), slice(8, -8), slice(8, -8))
    assert (there_and_back - picture)[inner].abs().mean() < 1e-3
    variation = [float(x[inner].diff(dim=3).abs().mean()) for x in (there_and_back, picture)]
    assert variation[0] == pytest.approx(variation[1], rel=0.01)


def test_what_is_not_seen_twice_is_not_trusted() -> None:
    still, moving = torch.zeros(1, 2, 8, 20), torch.zeros(1, 2, 8, 20)
    assert flow.trust(still, still).min() == 1
    moving[:, 0] = 4
    seen = flow.trust(moving, -moving)
    assert torch.equal(seen[0, 0], (torch.arange(20) < 16).float().expand(8, 20))  # the rest comes from outside
    assert flow.trust(moving, moving).max() == 0  # there and back is somewhere else
    edge = torch.zeros(1, 2, 8, 20)
    edge[..., 10:] = 1
    assert torch.equal(flow.trust(edge, -edge)[0, 0, 0, 8:12], torch.tensor([1.0, 0, 0, 1]))  # a motion's border


def test_far_frames_get_what_nearer_ones_do_not_see() -> None:
    trusts = [torch.tensor([1.0, 0.0, 0.0]), torch.tensor([1.0, 1.0, 0.0]), torch.tensor([1.0, 1.0, 1.0])]
    found = flow.long_term(trusts)
    assert [x.tolist() for x in found[:2]] == [[1, 0, 0], [0, 1, 0]]
    assert found[2].tolist() == [0, 0, 1]


def flo(path: Path, values: np.ndarray) -> None:
    height, width = values.shape[:2]
    path.write_bytes(struct.pack("<fii", flow.FLO, width, height) + values.astype("<f4").tobytes())


def test_flows_are_read_from_files_at_any_size(tmp_path: Path) -> None:
    values = np.zeros((4, 6, 2))
    values[..., 0], values[..., 1] = 3, -1
    flo(tmp_path / "backward_2_1.flo", values)
    flo(tmp_path / "forward_1_2.flo", -values)
    found = flow.chosen(str(tmp_path))
    frame = torch.zeros(1, 3, 8, 12)
    assert found(frame, frame, 1, 0)[0, :, 3, 3].tolist() == [6, -2]  # twice as many pixels
    assert found(frame, frame, 0, 1)[0, :, 3, 3].tolist() == [-6, 2]
    values[0, 0] = 1e10  # the format's word for unknown
    flo(tmp_path / "backward_3_2.flo", values)
    assert flow.trust(found(frame, frame, 2, 1), torch.zeros(1, 2, 8, 12))[0, 0, 0, 0] == 0


def test_wrong_flows_are_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--video\.flow to be dis, raft or a folder of \.flo files, but got dsi"):
        flow.chosen("dsi")
    frame, found = torch.zeros(1, 3, 8, 12), flow.chosen(str(tmp_path))
    with pytest.raises(InputError, match=r"have the file backward_2_1\.flo, but it cannot be read \(No such file"):
        found(frame, frame, 1, 0)
    (tmp_path / "backward_2_1.flo").write_bytes(b"flow?")
    with pytest.raises(InputError, match=r"backward_2_1\.flo is none; compute it again"):
        found(frame, frame, 1, 0)
    flo(tmp_path / "backward_2_1.flo", np.zeros((4, 6, 2)))
    whole = (tmp_path / "backward_2_1.flo").read_bytes()
    (tmp_path / "backward_2_1.flo").write_bytes(whole[:-1])
    with pytest.raises(InputError, match=r"backward_2_1\.flo is cut; compute it again"):
        found(frame, frame, 1, 0)


def test_raft_asks_for_its_weights_and_takes_frames_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.models import optical_flow

    def unreachable(**_: Any) -> None:
        raise urllib.error.URLError("no route")

    flow._raft_network.cache_clear()
    whole = optical_flow.raft_large
    monkeypatch.setattr(optical_flow, "raft_large", unreachable)
    with pytest.raises(InputError, match=r"weights of --video\.flow raft .* neither works .*; take --video\.flow dis"):
        flow.chosen("raft")
    monkeypatch.setattr(optical_flow, "raft_large", lambda weights: whole(weights=None))
    found = flow.chosen("raft")
    assert found(moved(0), moved(2), 1, 0).shape == (1, 2, 64, 96)
    flow._raft_network.cache_clear()


def test_what_comes_into_sight_gets_the_colours_of_its_like() -> None:
    clip = torch.zeros(1, 3, 20, 20)
    clip[..., 10:] = 0.8  # two things
    warped = torch.where(clip > 0, clip - 0.3, clip + 0.4)  # the one painted darker, and the other lighter
    seen = torch.ones(1, 1, 20, 20)
    seen[..., 8:12, 8:12] = 0
    wrong = torch.where(seen > 0, warped, torch.ones(()))
    torch.testing.assert_close(flow.filled(clip, wrong, seen), warped)
    assert torch.equal(flow.filled(clip, wrong, torch.ones(1, 1, 20, 20)), wrong)
    assert torch.equal(flow.filled(clip, wrong, torch.zeros(1, 1, 20, 20)), clip)
