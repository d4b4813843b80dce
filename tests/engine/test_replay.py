"""Searches replayed on tables of known accuracies."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from optuna.samplers import RandomSampler

from nas.accuracy.ranking import equal_cost_tau
from nas.arch.arch import Arch
from nas.arch.codes import Coder
from nas.arch.space import Space
from nas.arch.space_yaml import load_space
from nas.engine.options import SearchOptions
from nas.engine.replay import noise_sd_of, replay
from nas.engine.run.record import Candidate
from nas.engine.run.store import Store
from nas.engine.tables import MS, MacsModel, Table, read_table
from nas.system.errors import InfeasibleError, InputError
from tests.engine.search_toys import SPACE, TINY, Model, cost_ms, info_of

FAST = ("auto", "random", "tpe", "nsga2", "aging-evolution")
MBCONV = Path(__file__).parents[1] / "data" / "tables" / "imagenet_mbconv.csv"


def table_of(space: Space, count: int | None = None) -> Table:
    """All networks of a space, or a pool of random ones; scores grow with cost and fall with the first channels."""
    coder = Coder(space)
    archs = tuple(dict.fromkeys(coder.batch(coder.random(count or 4000, np.random.default_rng(0)))))
    model = MacsModel()
    scores = np.array([1 - np.exp(-cost_ms(arch) / 40) - 1e-3 * arch.rows[0].channels for arch in archs])
    codes = coder.encoded(archs) if count else None
    return Table("toy", space, archs, scores, model.many(archs), model, codes=codes)


ALL, POOL = table_of(TINY), table_of(SPACE, 30)


@pytest.mark.parametrize("sampler", FAST)
@pytest.mark.parametrize("table", [ALL, POOL], ids=["space", "pool"])
def test_an_exhausted_table_gives_its_optimum(sampler: str, table: Table) -> None:
    """Every network is evaluated once, whoever proposes."""
    found = replay(table, sampler, 0, evaluations=500)
    assert sorted(found.keys) == sorted(arch.key for arch in table.archs)
    assert found.observed[found.chosen] == table.accuracies.max()


@pytest.mark.parametrize("sampler", FAST)
@pytest.mark.parametrize("table", [ALL, POOL], ids=["space", "pool"])
def test_nothing_above_the_cap_is_evaluated(sampler: str, table: Table) -> None:
    """Nor is anything else than networks of the table, also where networks are enqueued before the sampler decides."""
    cap = float(np.quantile(table.costs, 0.4))
    found = replay(table, sampler, 1, evaluations=500, cap=cap)
    assert max(found.costs) <= cap
    assert sorted(found.keys) == sorted(table.archs[at].key for at in table.under(cap))


def test_the_same_seed_gives_the_same_search() -> None:
    """Also with noise, which is the same for the same network and seed."""
    once, again, other = (replay(POOL, "tpe", seed, 20, noise_sd=0.1) for seed in (0, 0, 1))
    assert once.keys == again.keys
    assert once.observed.tolist() == again.observed.tolist()
    assert once.keys != other.keys


def test_a_function_makes_a_sampler_of_its_own() -> None:
    """Any Optuna sampler can be compared."""
    assert len(replay(ALL, lambda seed: RandomSampler(seed), 0, 8).keys) == 8


def test_a_function_that_makes_no_sampler() -> None:
    """The error names what it returned."""
    with pytest.raises(InputError, match="int"):
        replay(ALL, lambda seed: seed, 0, 8)  # type: ignore[arg-type, return-value]


def test_the_choice_from_noisy_scores_is_not_the_luckiest() -> None:
    """Networks of a smooth table share what they reveal, so the posterior's choice is better on average."""
    table = table_of(SPACE, 100)
    found = [replay(table, "random", seed, 40, noise_sd=2 * float(table.accuracies.std())) for seed in range(8)]
    chosen = [one.accuracies[one.chosen] for one in found]
    luckiest = [one.accuracies[one.observed.argmax()] for one in found]
    assert np.mean(chosen) > np.mean(luckiest)


def test_for_accuracy_alone_no_cost_is_seen_but_the_cap_is_kept() -> None:
    """Costs of the result are the true ones."""
    cap = float(np.quantile(ALL.costs, 0.5))
    found = replay(ALL, "tpe", 0, 500, cap=cap, objective="accuracy")
    assert len(found.keys) == len(ALL.under(cap))
    assert max(found.costs) <= cap


def test_a_cap_that_nothing_meets() -> None:
    """The smallest network is named."""
    with pytest.raises(InfeasibleError, match=f"{ALL.costs.min():.4g}"):
        replay(ALL, "random", 0, 5, cap=ALL.costs.min() / 2)


@pytest.mark.parametrize("tau", [0.5, 0.8])
def test_noise_ranks_with_the_tau_that_was_asked_for(tau: float) -> None:
    """Judged by fresh draws."""
    table = table_of(SPACE, 400)
    noisy = table.accuracies + noise_sd_of(table, tau) * np.random.default_rng(5).normal(size=(20, len(table.archs)))
    found = np.mean([equal_cost_tau(scores, table.accuracies, table.costs) for scores in noisy])
    assert found == pytest.approx(tau, abs=0.05)


@pytest.mark.parametrize("tau", [0.0, 1.0, -1.0])
def test_impossible_noise(tau: float) -> None:
    with pytest.raises(InputError, match=f"{tau:g}"):
        noise_sd_of(ALL, tau)


class _Whole(Table):
    """Each network of a space has a score."""

    def observed(self, arch: Arch) -> float:
        return cost_ms(arch)

    def judged(self, archs: Sequence[Arch]) -> NDArray[np.float64]:
        return np.array([cost_ms(arch) for arch in archs])


def test_aging_evolution_beats_random_search() -> None:
    """On a smooth toy, by the mean of a few seeds."""
    few = table_of(SPACE, 100)
    table = _Whole("whole", SPACE, few.archs, few.accuracies, few.costs, few.model)
    best = {
        name: [replay(table, name, seed, 60).observed.max() for seed in range(4)]
        for name in ("aging-evolution", "random")
    }
    assert np.mean(best["aging-evolution"]) > np.mean(best["random"])


def test_the_published_csv_is_a_pool_of_its_space() -> None:
    """Dropout, which the table does not state, is the space's."""
    table = read_table(MBCONV)
    assert table.space.key == load_space("efficientnet").key
    assert table.codes is not None
    assert table.codes.shape == (len(table.archs), len(table.space.genes))
    assert all(arch in table.space for arch in table.archs[:3])


def test_only_whole_trainings_of_a_run_are_a_table(tmp_path: Path) -> None:
    """Trainings that stopped at a rung scored less because they were shorter."""
    archs = {arch.key: arch for arch in map(SPACE.sample, range(45))}
    states = ["STOPPED" if at % 8 == 0 else "COMPLETE" for at in range(len(archs))]
    with Store.create(tmp_path / "run", info_of()) as store:
        for at, (arch, state) in enumerate(zip(archs.values(), states, strict=True)):
            genes = SPACE.encode(arch)
            assert genes is not None
            store.append(Candidate(arch, state, Model()(arch), 1, 2, 3, genes, proxy_accuracy=at / 100))  # type: ignore[arg-type]
    table = read_table(tmp_path / "run")
    assert len(table.archs) == states.count("COMPLETE")
    assert set(np.round(100 * table.accuracies)) == {at for at, state in enumerate(states) if state == "COMPLETE"}


def test_a_run_that_trained_nothing(tmp_path: Path) -> None:
    """Its accuracies are estimates of a model, which would be replayed as the truth."""
    info = info_of(custom=(), options=SearchOptions(accuracy="imagenet", references=()))
    Store.create(tmp_path / "run", info).close()
    with pytest.raises(InputError, match=r"run.*no trainings") as caught:
        read_table(tmp_path / "run")
    assert "\n" not in str(caught.value)


def test_latencies_are_part_of_a_table() -> None:
    """The same networks on another device are another table; MACs follow from the networks."""
    other = replace(POOL, costs=2 * POOL.costs)
    assert other.key == POOL.key
    assert replace(other, unit=MS).key != replace(POOL, unit=MS).key


def test_halves_are_a_whole_space_with_two_models() -> None:
    """What is searched and what judges were fitted on different networks."""
    table = read_table(f"model:{MBCONV}")
    arch = table.archs[0]
    assert table.codes is None
    assert table.models is not None
    assert table.judged([arch])[0] == pytest.approx(table.accuracies[0])
    assert table.observed(arch) != pytest.approx(table.accuracies[0], abs=1e-9)


def test_nas_bench_macro(tmp_path: Path) -> None:
    """Codes of one network, whose identities are in other places, count once, with their mean."""
    codes = {f"{at:08d}": {"mean_acc": 80 + at % 7} for at in [*range(3), *(int(f"1{n:03b}0012") for n in range(8))]}
    codes |= {f"{a}{b}{c}00000": {"mean_acc": 70.0 + a} for a in range(3) for b in range(3) for c in range(3)}
    codes |= {"00010000": {"mean_acc": 90.0}, "00001000": {"mean_acc": 92.0}}
    path = tmp_path / "macro.json"
    path.write_text(json.dumps(codes))
    table = read_table(path)
    assert len(table.archs) == len(codes) - 1
    assert table.accuracies.max() == pytest.approx(0.91)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.json", "{", "a.json"),
        ("a.json", "[]", "eight digits"),
        ("a.json", '{"0000000": {"mean_acc": 1}}', "eight digits"),
        ("a.json", '{"00000000": {"mean_acc": 101}}', "101"),
        ("a.json", '{"00000000": 3}', "None"),
        ("a.json", '{"00000000": {"mean_acc": 90}}', "at least 30"),
        ("a.csv", "arch,accuracy\n", "at least 30"),
    ],
)
def test_broken_tables(tmp_path: Path, name: str, text: str, said: str) -> None:
    """One line says what is wrong."""
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=said) as caught:
        read_table(tmp_path / name, TINY)
    assert "\n" not in str(caught.value)


def test_tables_without_a_space_or_of_another(tmp_path: Path) -> None:
    """The option that helps is named."""
    path = tmp_path / "own.csv"
    rows = [f"mobilenet_v2@resolution={side},{side / 5000}" for side in range(96, 96 + 32 * 40, 32)]
    path.write_text("\n".join(["arch,accuracy", *rows]))
    for space in (None, SPACE):
        with pytest.raises(InputError, match="--space"):
            read_table(path, space)
    with pytest.raises(InputError, match="model:"):
        read_table(f"model:{tmp_path / 'a.json'}")
