"""torchvision, which is optional, also beside a torch without CUDA."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from nas.system.extras import require

_schemas: list[Any] = []


def torchvision() -> ModuleType:
    """The package, with its data sets and models.

    torchvision's wheel on PyPI is built for CUDA. Beside a CPU-only torch its C++ operators do not load, and ``import
    torchvision`` stops at ``operator torchvision::nms does not exist``. Declaring the two schemas it looks for is
    enough for its data sets, transforms and models, and for timm, which imports it. To be removed when the wheel no
    longer looks for them at import.

    Raises:
        InputError: it is not installed.
    """
    require("torchvision", "a network, weights or a data set of torchvision")
    import torch

    try:
        import torchvision
    except RuntimeError as error:
        if "torchvision::" not in str(error) or _schemas:
            raise
        library: Any = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _schemas.append(library)  # declared for as long as the process lives
        _forget_half_import()
        import torchvision
    import torchvision.datasets
    import torchvision.models

    module: ModuleType = torchvision
    return module


def _forget_half_import() -> None:
    import sys

    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
