"""From an `Arch` to a `torch.nn.Module`: building, weights, traces, and files in other formats."""
