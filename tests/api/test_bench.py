"""Comparing samplers: what is kept, what is repeated, and mistakes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from optuna.samplers import BaseSampler, RandomSampler

from nas.api import bench, bench_cache
from nas.api.bench import CURVES, NEEDED, PLOT, bench_samplers
from nas.system.errors import InfeasibleError, InputError, NasError

MBCONV = str(Path(__file__).parents[1] / "data" / "tables" / "imagenet_mbconv.csv")
HOW: dict[str, Any] = {"samplers": ["random", "aging-evolution"], "seeds": 3, "evaluations": 8}


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, int]]:
    """Samplers and seeds of the searches that are really made."""
    made: list[tuple[Any, int]] = []
    true = bench.replay

    def replay(table: Any, sampler: Any, seed: int, *how: Any) -> Any:
        made.append((sampler, seed))
        return true(table, sampler, seed, *how)

    monkeypatch.setattr(bench, "replay", replay)
    return made


def test_finished_searches_are_kept_and_used_again(tmp_path: Path, counted: list[tuple[Any, int]]) -> None:
    """What is missing or damaged is searched again, with the same result, and the files come out the same."""
    first = bench_samplers([MBCONV], out=tmp_path, **HOW)[0]
    assert len(counted) == 6
    texts = {name: (tmp_path / name).read_bytes() for name in (CURVES, NEEDED, PLOT)}
    kept = sorted((tmp_path / "replays").rglob("*.csv"))
    kept[0].unlink()
    kept[1].write_text(kept[1].read_text()[:-20])
    kept[2].write_text("key,observed\n")
    counted.clear()
    again = bench_samplers([MBCONV], out=tmp_path, **HOW)[0]
    assert len(counted) == 3
    assert again.to_dict() == first.to_dict()
    assert all((tmp_path / name).read_bytes() == text for name, text in texts.items())


def test_another_setting_is_another_search(tmp_path: Path, counted: list[tuple[Any, int]]) -> None:
    """Searches of a sampler that is to be fresh are repeated, too."""
    bench_samplers([MBCONV], out=tmp_path, **HOW)
    counted.clear()
    bench_samplers([MBCONV], out=tmp_path, **HOW, fresh=["random"])
    assert {sampler for sampler, _ in counted} == {"random"}
    counted.clear()
    bench_samplers([MBCONV], out=tmp_path, **HOW, cap="400M")
    assert len(counted) == 6


def test_a_function_is_no_named_sampler(tmp_path: Path, counted: list[tuple[Any, int]]) -> None:
    """Whatever it is called, its searches do not become those of a sampler of that name, nor of another function."""
    how: dict[str, Any] = {"seeds": 1, "evaluations": 6, "out": tmp_path}
    for name in ("tpe", "my sampler", "my-sampler"):
        bench_samplers([MBCONV], samplers={name: RandomSampler}, **how)
    bench_samplers([MBCONV], samplers=["tpe"], **how)
    assert [sampler for sampler, _ in counted] == [RandomSampler, RandomSampler, RandomSampler, "tpe"]
    counted.clear()
    bench_samplers([MBCONV], samplers={"another name": "tpe"}, **how)
    assert not counted


@pytest.mark.processes
def test_a_worker_that_dies() -> None:
    """One line with what to do."""

    def die(seed: int) -> BaseSampler:
        import os

        os._exit(seed + 1)

    with pytest.raises(NasError, match="--workers 1") as caught:
        bench_samplers([MBCONV], samplers={"own": die}, seeds=2, evaluations=4, workers=2)
    assert "\n" not in str(caught.value)


@pytest.mark.processes
def test_processes_find_what_one_finds(tmp_path: Path) -> None:
    """Samplers of the caller travel to them."""
    samplers: dict[str, str | Callable[[int], BaseSampler]] = {
        "tpe": "tpe",
        "own": lambda seed: RandomSampler(seed),
    }
    how: dict[str, Any] = {"samplers": samplers, "seeds": 2, "evaluations": 12}
    alone, side_by_side = (bench_samplers([MBCONV], workers=workers, **how)[0].to_dict() for workers in (1, 2))
    assert alone == side_by_side


def test_a_replay_reads_back(tmp_path: Path) -> None:
    """To the last digit."""
    bench_samplers([MBCONV], out=tmp_path, samplers=["random"], seeds=1, evaluations=5, noise=0.5)
    (path,) = (tmp_path / "replays").rglob("*.csv")
    found = bench_cache.read(path)
    assert found is not None
    other = path.with_name("other.csv")
    bench_cache.write(other, found)
    assert other.read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"samplers": ["bayes"]}, "'bayes'.*known: auto"),
        ({"samplers": []}, "known: auto"),
        ({"samplers": "tpe"}, "'tpe'"),
        ({"samplers": {"own": RandomSampler()}}, "RandomSampler"),
        ({"seeds": 0}, "seeds.*0"),
        ({"evaluations": 1.5}, r"evaluations.*1\.5"),
        ({"workers": -1}, "workers.*-1"),
        ({"cap": "60X"}, "60X"),
        ({"noise": 1.5}, r"1\.5"),
        ({"levels": ["high"]}, "high"),
        ({"levels": []}, "level"),
        ({"objective": "speed"}, "speed"),
        ({"fresh": ["tpe"]}, "tpe"),
        ({"space": "nowhere"}, "nowhere"),
    ],
)
def test_bad_input(changes: dict[str, Any], said: str, counted: list[tuple[Any, int]]) -> None:
    """One line, before anything is searched."""
    with pytest.raises(InputError, match=said) as caught:
        bench_samplers([MBCONV], **{**HOW, **changes})
    assert "\n" not in str(caught.value)
    assert not counted


def test_an_impossible_cap_and_an_unwritable_folder(tmp_path: Path) -> None:
    with pytest.raises(InfeasibleError, match="M MACs"):
        bench_samplers([MBCONV], **HOW, cap="1M")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="--out"):
        bench_samplers([MBCONV], **HOW, out=tmp_path / "file")


def test_the_candidates_of_a_run_are_a_table(tmp_path: Path) -> None:
    """With its scores; a run without a latency table has MACs as costs."""
    import nas

    nas.search(
        "shufflenet",
        device=lambda arch: nas.count(arch).macs / 1e6,
        evaluate=lambda arch: arch.resolution / 1000 + len(arch.rows) / 100,
        trials=35,
        sampler="random",
        run=tmp_path / "run",
    )
    found = bench_samplers([tmp_path / "run"], **HOW)[0]
    assert (found.name, found.networks, found.unit) == ("run", 35, "M MACs")


def test_a_sampler_that_ignores_constraints_is_named() -> None:
    """In one line, and its proposals above the limit are not evaluated; others are not named."""
    import nas
    from nas.engine.progress import Silent

    said: dict[str, list[str]] = {}
    for name, sampler in (("own", RandomSampler(seed=0)), ("tpe", "tpe")):
        lines = said.setdefault(name, [])
        watch = Silent()
        watch.say = lines.append  # type: ignore[method-assign]
        record = nas.search(
            "shufflenet",
            device=lambda arch: nas.count(arch).macs / 1e6,
            evaluate=lambda arch: len(arch.rows) / 100,
            latency_target=100,
            trials=12,
            sampler=sampler,
            watch=watch,
        )
        assert all(one.latency_ms <= 100 for one in record.candidates if one.state == "COMPLETE")
    assert sum("RandomSampler" in line for line in said["own"]) == 1
    assert not any("constraints" in line for line in said["tpe"])
