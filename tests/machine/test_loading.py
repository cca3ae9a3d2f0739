"""Modules are loaded without garbage collection, which then goes on as before."""

from __future__ import annotations

import gc
from importlib import import_module

import pytest

from nst.machine.loading import without_collection


@pytest.mark.parametrize("was", [True, False])
def test_collection_is_off_within_and_as_before_after(was: bool) -> None:
    try:
        (gc.enable if was else gc.disable)()
        with without_collection():
            assert not gc.isenabled()
        assert gc.isenabled() is was
        with pytest.raises(ModuleNotFoundError), without_collection():
            import_module("nst.no_such_module")
        assert gc.isenabled() is was
    finally:
        gc.enable()
