"""torchvision, whole, beside a CPU torch: the independent truth for the builder."""

from typing import Any


def torchvision() -> Any:
    """The package with its models; its schemas are declared in one place of the project."""
    from nas.proxy.torchvision_data import torchvision_datasets

    torchvision_datasets()
    import torchvision
    import torchvision.models

    return torchvision
