"""The same networks as torchvision and timm build them, to compare the builder and the weights with."""

from typing import Any

import torch
from torch import Tensor, nn

from nas.system.compat import torchvision as torchvision

State = dict[str, Tensor]
Norms = (nn.BatchNorm1d, nn.BatchNorm2d)


def timm() -> Any:
    """The package; it imports torchvision."""
    torchvision()
    import timm

    return timm


def twin(library: str, model: str) -> nn.Module:
    """A network of a library with made-up weights and batch norm statistics, whose outputs are of order 1."""
    if library == "torchvision":
        network = torchvision().models.get_model(model, weights=None)
    else:
        network = timm().create_model(model.partition(".")[0])
    return make_up(network)


def make_up(network: nn.Module, seed: int = 0) -> nn.Module:
    """Random weights, biases and norms. The running statistics are those of noise, off by up to a quarter at random: no
    signal dies out or explodes. The last layer is scaled to outputs of order 1."""
    generator = torch.Generator().manual_seed(seed)
    network.eval()
    for name, value in network.state_dict().items():
        if value.dim() > 1:
            value.copy_(torch.randn(value.shape, generator=generator) * (2 / value[0].numel()) ** 0.5)
        elif not name.endswith(("num_batches_tracked", "running_mean", "running_var")):
            middle = 1.0 if name.endswith("weight") else 0.0
            value.copy_(middle + torch.rand(value.shape, generator=generator) * 0.5 - 0.25)
    norms = [module for module in network.modules() if isinstance(module, Norms)]
    momentum = [norm.momentum for norm in norms]
    for norm in norms:
        norm.train().momentum = 1.0
    with torch.no_grad():
        contrast = torch.linspace(0.25, 2, 4).reshape(4, 1, 1, 1)  # else deep features of noise are all alike
        network(contrast * torch.randn(4, 3, 64, 64, generator=generator))
        for norm, before in zip(norms, momentum, strict=True):
            norm.eval().momentum = before
            factor = torch.rand(norm.running_var.shape, generator=generator) * 0.5 + 0.75
            norm.running_var.mul_(factor)
            norm.running_mean.mul_(factor.flip(0))
        last = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
        last.weight.div_(network(torch.randn(2, 3, 64, 64, generator=generator)).std())
    return network


def copied(network: nn.Module) -> State:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def equal(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
