"""An accelerator that computes nothing: PyTorch's meta device, watched for tensors that are on the wrong device."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nas.training.accelerator import Accelerator

META = Accelerator(kind="meta")  # type: ignore[arg-type]


class FakeAccelerator(TorchDispatchMode):
    """Under it the meta device behaves like a GPU whose every number is 1: tensors can be copied to it and read back.

    Attributes:
        uploads: shapes of what was copied to the device.
        reads: operators that brought a value back, for which a program waits on a real device.
        mixed: operators that met tensors of both devices, which a real device refuses.
        seen: operators on the device.
    """

    def __init__(self) -> None:
        super().__init__()
        self.uploads: list[tuple[int, ...]] = []
        self.reads: list[str] = []
        self.mixed: list[str] = []
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        on_device = [tensor.is_meta for tensor in tensors]
        if any(on_device):
            self.seen.append(name)
        if name == "_local_scalar_dense" and any(on_device):
            self.reads.append(name)
            return 1
        if name in ("_to_copy", "copy_"):
            target = kwargs.get("device") or tensors[0].device
            if not all(on_device) and torch.device(target).type == "meta":
                self.uploads.append(tuple(tensors[-1].shape))
            elif any(on_device) and torch.device(target).type == "cpu":
                self.reads.append(name)
                return torch.ones(tensors[-1].shape, dtype=kwargs.get("dtype") or tensors[-1].dtype)
        elif any(on_device) and not all(on_device):
            self.mixed.append(name)
        return func(*args, **kwargs)
