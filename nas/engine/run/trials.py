"""A `Candidate` as an Optuna trial and as JSON: the two forms in which a search remembers it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import Any, cast

from optuna.distributions import CategoricalDistribution, json_to_distribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from nas.arch.arch import Arch
from nas.arch.genes import Scalar
from nas.arch.space import Space
from nas.engine.run.record import Candidate, Rung, State
from nas.latency.record import Latency
from nas.system.errors import InputError, known
from nas.system.validate import is_number, is_whole, whole_number

CONSTRAINT = "latency"  # how far above what is admitted (`Proposals.excess`), of any limit; positive is infeasible
STATES: Mapping[State, TrialState] = {
    "COMPLETE": TrialState.COMPLETE,
    "FAILED": TrialState.FAIL,
    "TOO_SLOW": TrialState.PRUNED,
    "STOPPED": TrialState.PRUNED,
}
_COUNTS = ("params", "macs", "memory_bytes")


def values_of(candidate: Candidate) -> list[float] | None:
    """(accuracy, latency in ms), the two objectives; None if it was not scored."""
    if candidate.state != "COMPLETE" or candidate.proxy_accuracy is None:
        return None
    return [candidate.proxy_accuracy, candidate.predicted.ms]


def scores_of(candidate: Candidate) -> list[float] | None:
    """`values_of` with the estimated accuracy in place of the observed one: what a sampler learns from, also of a
    candidate that was stopped at a rung."""
    if candidate.trained and candidate.estimate is not None:
        return [candidate.estimate.mean, candidate.predicted.ms]
    return values_of(candidate)


def reported_state(candidate: Candidate) -> TrialState:
    """The state of a candidate as it is reported to a sampler: Optuna takes no values of a pruned trial."""
    return TrialState.COMPLETE if scores_of(candidate) is not None else STATES[candidate.state]


def excess_ms(candidate: Candidate, limit_ms: float, target_ms: float | None = None) -> float:
    """Milliseconds above what is admitted; positive is infeasible. A candidate that missed the target when measured is
    infeasible by that much, whatever its prediction."""
    over_ms = candidate.predicted.ms - limit_ms
    if candidate.measured is not None and target_ms is not None:
        over_ms = max(over_ms, candidate.measured.at_most_ms - target_ms)
    return over_ms


def frozen(
    candidate: Candidate,
    space: Space,
    excess: float | None,
    elapsed_s: float = 0.0,
    for_sampler: bool = False,
) -> FrozenTrial:
    """The finished trial that stands for `candidate`. Its scores at rungs are intermediate values, which
    optuna-dashboard draws.

    Args:
        candidate: found by the search, with its genes.
        space: the genes are of.
        excess: by how much it is above what is admitted, positive if it is infeasible; None without limits.
        elapsed_s: search time spent when it finished.
        for_sampler: whether a sampler learns from it (`scores_of`, `reported_state`); else the journal keeps it.
    """
    options = {gene.name: gene.options for gene in space.genes}
    trial = create_trial(
        state=reported_state(candidate) if for_sampler else STATES[candidate.state],
        values=scores_of(candidate) if for_sampler else values_of(candidate),
        intermediate_values={} if for_sampler else {rung.steps: rung.accuracy for rung in candidate.rungs},
        params=dict(candidate.genes),
        distributions={name: CategoricalDistribution(options[name]) for name in candidate.genes},
        user_attrs=_facts(candidate) | {"elapsed_s": elapsed_s},
        constraints=None if excess is None else {CONSTRAINT: excess},
    )
    trial.datetime_complete = datetime.now()
    trial.datetime_start = trial.datetime_complete - timedelta(seconds=candidate.seconds)
    return trial


def candidate_of(log: Mapping[str, Any], space: Space) -> tuple[Candidate, float]:
    """The candidate of one journal record that `frozen` caused, and the search time spent when it finished.

    Raises:
        InputError: a field is missing or of a wrong kind, or the genes are not of `space`.
    """
    genes = {}
    for name, index in _mapping(log, "params").items():
        choices = _choices(str(_mapping(log, "distributions").get(name)))
        if not isinstance(index, (int, float)) or not 0 <= index < len(choices):
            raise InputError(f"gene {name!r} has no option number {index!r:.40}")
        genes[name] = choices[int(index)]
    arch = space.decode(genes)
    facts = _mapping(log, "user_attrs")
    if facts.get("key") != arch.key:
        raise InputError(f"its genes decode to network {arch.key}, not to {facts.get('key')!r:.40}")
    states: dict[int, State] = {int(number): state for state, number in STATES.items() if state != "STOPPED"}
    if not isinstance(log.get("state"), int) or log["state"] not in states:
        raise InputError(f"a finished trial has state {known(states)}; got {log.get('state')!r:.40}")
    values = log.get("values") or [None]
    state, accuracy = states[log["state"]], values[0] if isinstance(values, list) else None
    if state == "TOO_SLOW" and (rungs := _rungs(facts)):
        state, accuracy = "STOPPED", rungs[-1].accuracy
    candidate = _candidate(facts, arch, state, genes, accuracy)
    return candidate, _number(facts, "elapsed_s") or 0.0


def reference_to_dict(candidate: Candidate, elapsed_s: float = 0.0) -> dict[str, Any]:
    """Plain values of a reference; `reference_from_dict` reads them back."""
    return _facts(candidate) | {
        "name": candidate.name,
        "arch": json.loads(candidate.arch.to_json()),
        "state": candidate.state,
        "proxy_accuracy": candidate.proxy_accuracy,
        "elapsed_s": elapsed_s,
    }


def reference_from_dict(data: Any) -> tuple[Candidate, float]:
    """Read what `reference_to_dict` wrote.

    Raises:
        InputError: a field is missing or of a wrong kind.
    """
    if not isinstance(data, dict):
        raise InputError(f"a reference is an object, got {data!r:.40}")
    arch = Arch.from_json(json.dumps(_mapping(data, "arch")))
    name, state = data.get("name"), cast(State, data.get("state"))
    if not isinstance(name, str) or state not in STATES:
        raise InputError(f"a reference has a name and a state; got {name!r:.40} and {state!r:.40}; {known(STATES)}")
    candidate = _candidate(data, arch, state, {}, _number(data, "proxy_accuracy"), name)
    return candidate, _number(data, "elapsed_s") or 0.0


def _facts(candidate: Candidate) -> dict[str, Any]:
    return {
        "key": candidate.key,
        "predicted": candidate.predicted.to_dict(),
        "params": candidate.params,
        "macs": candidate.macs,
        "memory_bytes": candidate.memory_bytes,
        "proxy_loss": candidate.proxy_loss,
        "seconds": candidate.seconds,
        "reason": candidate.reason,
        **({"rungs": [list(rung) for rung in candidate.rungs]} if candidate.rungs else {}),
    }


def _candidate(
    facts: Mapping[str, Any],
    arch: Arch,
    state: State,
    genes: Mapping[str, Scalar],
    accuracy: Any,
    name: str | None = None,
) -> Candidate:
    if (state in ("COMPLETE", "STOPPED")) != is_number(accuracy):
        raise InputError(
            f"a COMPLETE network, and one STOPPED at a rung, has a finite accuracy; got {state} and {accuracy!r:.40}"
        )
    for count in _COUNTS:
        whole_number(count, facts.get(count), 0)
    return Candidate(
        arch=arch,
        state=state,
        predicted=Latency.from_dict(facts.get("predicted")),
        **{count: facts[count] for count in _COUNTS},
        genes=genes,
        name=name,
        proxy_accuracy=accuracy,
        proxy_loss=_number(facts, "proxy_loss"),
        seconds=_number(facts, "seconds") or 0.0,
        reason=None if facts.get("reason") is None else str(facts["reason"]),
        rungs=_rungs(facts),
    )


def _rungs(facts: Mapping[str, Any]) -> tuple[Rung, ...]:
    found = facts.get("rungs") or []
    good = isinstance(found, list) and all(isinstance(rung, list) and len(rung) == 3 for rung in found)
    if not good or not all(is_whole(rung[0]) and is_number(rung[1]) for rung in found):
        raise InputError(f"rungs must be a list of [steps, accuracy, loss], got {found!r:.60}")
    if not all(rung[2] is None or is_number(rung[2]) for rung in found):
        raise InputError(f"the loss at a rung must be a finite number or null, got {found!r:.60}")
    if not all(one[0] < other[0] for one, other in pairwise(found)):
        raise InputError(f"rungs must be in ascending order, got {found!r:.60}")
    return tuple(Rung(*rung) for rung in found)


def _mapping(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = data.get(name)
    if not isinstance(found, dict):
        raise InputError(f"{name} must be an object, got {found!r:.40}")
    return found


def _number(data: Mapping[str, Any], name: str) -> float | None:
    found = data.get(name)
    if found is None:
        return None
    if not is_number(found):
        raise InputError(f"{name} must be a finite number, got {found!r:.40}")
    return found


@lru_cache(maxsize=4096)
def _choices(text: str) -> tuple[Any, ...]:
    """Options out of Optuna's JSON of a distribution; the same few texts stand in every record."""
    try:
        distribution = json_to_distribution(text)
    except (ValueError, TypeError, KeyError, AttributeError):
        distribution = None
    if not isinstance(distribution, CategoricalDistribution):
        raise InputError(f"a gene has a categorical distribution, got {text!r:.60}")
    return tuple(distribution.choices)
