"""A device that no machine has, made up to test what a program asks of devices that are not the CPU.

Its tensors are wrappers around the CPU's, and whatever is asked of them is looked at first: the device has no float64,
no decompositions of matrices and no antialiasing, and in a block of `unwaited` nothing may be asked for which a program
would have to wait until the device has done all that it was told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

AWAY = torch.device("lazy", 0)  # a kind that torch knows by name, and that nothing is behind
MISSING = ("linalg_eigh", "linalg_eigvalsh", "linalg_cholesky", "linalg_svd", "linalg_qr", "2d_aa")
ASKING = (
    *("_local_scalar_dense", "item", "nonzero", "is_nonzero", "equal", "masked_select", "argwhere", "allclose"),
    *("unique", "_unique", "_unique2", "unique_dim", "unique_consecutive", "bincount", "_linalg_check_errors"),
)
"""Operators whose answer a program waits for: a number, or a tensor whose size the values decide."""

waiting = True
"""Whether a program may wait for the device."""


class Remote(Tensor):
    """A tensor of the made-up device."""

    here: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> Remote:
        assert inner.dtype != torch.float64, "the device has no float64"
        strides, kind = inner.stride(), inner.dtype
        made: Remote = torch.Tensor._make_wrapper_subclass(cls, inner.shape, strides, 0, dtype=kind, device=AWAY)
        made.here = inner
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]  # as torch's own wrappers

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        return ask(func, args, kwargs or {})


def ask(func: Any, args: Any, kwargs: Any) -> Any:
    """Does on the CPU what the device is asked, where it can do that."""
    remote = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Remote)]
    wanted = kwargs.get("device")
    if not remote and (wanted is None or torch.device(wanted).type != AWAY.type):
        return func(*args, **kwargs)
    if any(name in str(func) for name in MISSING):
        raise NotImplementedError(f"{func} is not implemented for the device")
    if not waiting:
        check(func, args, kwargs)
    if wanted is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    args, kwargs = tree_map(lambda x: x.here if isinstance(x, Remote) else x, (args, kwargs))
    result = func(*args, **kwargs)
    if wanted is not None and torch.device(wanted).type == "cpu":
        return result
    known = {id(x.here): x for x in remote}  # what is changed in place stays the same tensor
    return tree_map(lambda x: known[id(x)] if id(x) in known else Remote(x) if isinstance(x, Tensor) else x, result)


def check(func: Any, args: Any, kwargs: Any) -> None:
    """Raises an AssertionError where a program would wait for the device, or give it a tensor of the CPU."""
    name = str(func).split(".")[1]
    tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
    assert name not in ASKING, f"{func} waits for the device"
    masks = [x for x in tree_leaves(args[1:]) if isinstance(x, Tensor) and x.dtype in (torch.bool, torch.uint8)]
    assert not (name.startswith("index") and masks), f"{func} by a mask waits for the device"
    if name in ("_to_copy", "copy_"):
        places = {x.device.type for x in tensors} | {torch.device(kwargs.get("device") or tensors[0].device).type}
        assert len(places) == 1 or kwargs.get("non_blocking") or args[2:] == (True,), f"{func} waits for the device"
    else:
        here = [x for x in tensors if not isinstance(x, Remote) and x.ndim]
        assert not here, f"{func} was given a tensor of the CPU, {here}"


class Device(TorchDispatchMode):
    """Lets torch make tensors of the device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return ask(func, args, kwargs or {})


@contextmanager
def unwaited() -> Iterator[None]:
    """Forbids all that a program would have to wait for the device for."""
    global waiting
    waiting = False
    try:
        yield
    finally:
        waiting = True


class Unwaited(pl.Callback):
    """Forbids to wait for the device in all steps but the last, which learns what is left to learn.

    Args:
        forbid: Returns a context that forbids it.

    Attributes:
        kinds: The type of the picture's device in each step.
    """

    def __init__(self, forbid: Callable[[], AbstractContextManager[None]]) -> None:
        self.forbid, self.stack = forbid, ExitStack()
        self.kinds: list[str] = []

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == 0:
            pl_module.begin_level(batch)  # whose targets may be waited for
            self.stack.enter_context(self.forbid())
        self.kinds.append(pl_module.picture.device.type)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == batch.steps - 2:
            self.stack.close()

    def on_exception(self, *_: Any) -> None:
        self.stack.close()
