"""Which way to convolve a plan takes; bands are tested with the scanner."""

from __future__ import annotations

import pytest

from nst.streaming import plan
from nst.streaming.convolutions import has_winograd


@pytest.mark.skipif(not has_winograd(), reason="NNPACK does not run on this processor")
@pytest.mark.parametrize(("two_wide_units", "faster"), [(False, "winograd"), (True, "direct")])
def test_the_faster_way_is_taken(two_wide_units: bool, faster: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "two_wide_units", lambda: two_wide_units)
    assert plan.usable("auto") == faster
    assert plan.usable("winograd") == "winograd"  # as asked for
    assert plan.usable("direct") == "direct"
