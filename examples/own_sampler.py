"""Pass in an Optuna sampler, here one with settings of your own beside random search."""

from optuna.samplers import RandomSampler, TPESampler

import nas


def million_macs(arch: nas.Arch) -> float:
    return nas.count(arch).macs / 1e6


def share_of_se(arch: nas.Arch) -> float:
    """A score that is quick to compute: the share of rows with squeeze-and-excitation."""
    return sum(row.se > 0 for row in arch.rows) / len(arch.rows)


for sampler in (RandomSampler(seed=0), TPESampler(seed=0, n_startup_trials=5, n_ei_candidates=48)):
    result = nas.search(
        "mbconv", latency_target=300.0, device=million_macs, evaluate=share_of_se, trials=25, sampler=sampler
    )
    best = result.pareto["proxy_accuracy"].max()
    print(f"{type(sampler).__name__}: {len(result.pareto)} networks on the front, best score {best:.2f}")
