"""Where candidates are trained, the CPU, a CUDA GPU or Apple's MPS, and with which numbers."""

from __future__ import annotations

import gc
import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

from nas.system.errors import InputError

if TYPE_CHECKING:
    import torch

Kind = Literal["cpu", "cuda", "mps"]
ACCELERATORS = ("auto", "cpu", "cuda", "mps")
_CHECK_EVERY = 50  # steps between two looks at the losses: each look waits for the GPU
_OUT_OF_MEMORY = ("out of memory", "alloc_failed")  # in the messages of MPS, cuDNN and cuBLAS


@dataclass(frozen=True, slots=True)
class Accelerator:
    """A device and how to train on it. It holds no torch object and pickles; PyTorch's global settings stay as they
    are. Memory is channels-last everywhere.

    Args:
        kind: type of the device.
        bf16: whether training steps compute in bfloat16 (autocast); weights, averages and scores stay float32.
    """

    kind: Kind = "cpu"
    bf16: bool = False

    @staticmethod
    def here(kind: Kind) -> Accelerator:
        """The device of this kind that this process sees first. On CUDA, bfloat16 is used where the GPU has it in
        hardware; MPS and the CPU, where it is slower, compute in float32."""
        import torch

        return Accelerator(kind, kind == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False))

    @property
    def device(self) -> torch.device:
        """The PyTorch device."""
        import torch

        return torch.device(self.kind)

    @property
    def check_every(self) -> int:
        """Number of steps after which the losses are read: reading waits for the device, except on the CPU."""
        return 1 if self.kind == "cpu" else _CHECK_EVERY

    def autocast(self) -> AbstractContextManager[object]:
        """The context of a training step's forward pass and loss."""
        import torch

        return torch.autocast(self.kind, torch.bfloat16) if self.bf16 else nullcontext()

    def ran_out(self, error: BaseException) -> bool:
        """Whether `error` says that the accelerator's memory is full."""
        import torch

        if self.kind == "cpu" or not isinstance(error, RuntimeError):
            return False
        text = str(error).lower()
        return isinstance(error, torch.OutOfMemoryError) or any(words in text for words in _OUT_OF_MEMORY)

    def empty_cache(self) -> None:
        """Give unused memory back to the device, once nothing refers to the tensors in it."""
        import torch

        gc.collect()
        if self.kind == "cuda":
            torch.cuda.empty_cache()
        elif self.kind == "mps":
            torch.mps.empty_cache()

    def __str__(self) -> str:
        import torch

        name = f" ({torch.cuda.get_device_name()})" if self.kind == "cuda" else ""
        return f"{self.kind}{name}, {'bfloat16' if self.bf16 else 'float32'}"


CPU = Accelerator()


def choose(name: str, *, cuda: bool | None = None, mps: bool | None = None) -> Kind:
    """The kind of device that an option names; ``auto`` is CUDA where it is available, else MPS, else the CPU.

    Args:
        name: one of `ACCELERATORS`.
        cuda: whether a CUDA GPU is available; None asks PyTorch.
        mps: whether MPS is available; None asks PyTorch.

    Raises:
        InputError: unknown name, or the device is not available.

    >>> choose("auto", cuda=False, mps=True), choose("auto", cuda=True, mps=False), choose("cpu")
    ('mps', 'cuda', 'cpu')
    """
    check_name(name)
    if name == "cpu":
        return "cpu"
    import torch

    there = {
        "cuda": torch.cuda.is_available() if cuda is None else cuda,
        "mps": torch.backends.mps.is_available() if mps is None else mps,
    }
    if name == "auto":
        return cast(Kind, next((kind for kind, is_there in there.items() if is_there), "cpu"))
    if not there[name]:
        raise InputError(f"accelerator {name} is not available: {_why_not(name)}; use --accelerator cpu or auto")
    return cast(Kind, name)


def choose_for(
    name: str,
    gpus_per_trial: float = 0,
    *,
    ray: bool = False,
    elsewhere: bool = False,
    cuda: bool | None = None,
    mps: bool | None = None,
) -> Kind:
    """The kind of device that the candidates of a search train on.

    Args:
        name: one of `ACCELERATORS`.
        gpus_per_trial: CUDA GPUs that each candidate reserves.
        ray: whether candidates are Ray tasks. They see a GPU only if they reserve a part of it.
        elsewhere: whether these tasks run on a cluster, whose devices are unknown here. Ray checks its GPUs.
        cuda: whether a CUDA GPU is available here; None asks PyTorch.
        mps: whether MPS is available here; None asks PyTorch.

    Raises:
        InputError: unknown name, the device is not available, or GPUs are reserved for nothing or not reserved.

    >>> choose_for("auto", 0.25, ray=True, elsewhere=True), choose_for("auto", ray=True, elsewhere=True)
    ('cuda', 'cpu')
    """
    check_name(name)
    if elsewhere:
        cuda, mps = True, name == "mps"
    if ray and not gpus_per_trial:
        if name == "cuda":
            raise InputError("with Ray, accelerator cuda needs a share of a GPU: give --gpus-per-trial, e.g. 0.25")
        cuda = False
    kind = choose(name, cuda=cuda, mps=mps)
    if gpus_per_trial and kind != "cuda":
        raise InputError(
            f"--gpus-per-trial reserves CUDA GPUs, got {gpus_per_trial:g}, but candidates train on {kind} here; "
            "leave it out"
        )
    return kind


def check_name(name: object) -> None:
    """Raise `InputError` unless `name` is one of `ACCELERATORS`."""
    if name not in ACCELERATORS:
        raise InputError(f"accelerator must be one of {', '.join(ACCELERATORS)}, got {name!r:.60}")


def _why_not(name: str) -> str:
    import torch

    if name == "mps":
        built = torch.backends.mps.is_built()
        return "it needs macOS 14 or later" if built else "this PyTorch is built without MPS, which needs a Mac"
    if torch.backends.cuda.is_built():  # type: ignore[no-untyped-call]
        return "PyTorch finds no CUDA GPU"
    return f"PyTorch {torch.__version__} is built without CUDA (see https://pytorch.org/get-started)"


def visible_gpus() -> tuple[str, ...]:
    """The CUDA GPUs that this process sees, each as a value of ``CUDA_VISIBLE_DEVICES``."""
    import torch

    count = torch.cuda.device_count()
    listed = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return tuple(listed[:count] or map(str, range(count)))
