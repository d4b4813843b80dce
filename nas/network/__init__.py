"""From an `Arch` to a `torch.nn.Module`, its weights, its trace and a file of its own."""
