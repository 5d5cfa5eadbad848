"""What should the sampler be told of a trial that stands below the last rung? Measured on a virtual clock.

    python -m tests.bench.bench_policy [--seeds 20]

The real dispatcher, rungs and TPE, four workers that train nothing, a journal that writes nothing; only the function
that shows Optuna the history is exchanged. A search is looked at after the cost of so many full trainings while it
would go on for ever, and at the end of its trials. Regret is the loss after 27 epochs of the trial it presents then,
above the lowest loss there is. Every policy gets the same seeds and landscapes, and differences are taken seed by seed.
Nothing is timed: a busy machine changes no number.

d  tuned settings = 6; every landscape maps their positions x ∈ [0, 1]^d in their ranges, and an epoch, to a loss.
"""

import argparse
import heapq
import math
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState
from scipy.stats import spearmanr

from search.decide import sampler
from search.decide.dispatch import Dispatcher, Order, Outcome
from search.record.history import History, Trial
from search.record.journal import Fact, Journal
from search.space.file import read_space
from search.space.parameter import Parameter
from search.space.space import Space
from tests.bench.bench_search import load_average, machine

WORKERS, EPOCHS = 4, 27
BUDGETS = (5, 10, 20, 40)  # full trainings
TRIALS = (32, 100)  # of searches that end
SPACE = """
fixed: {data.dataset: finches}
tune:                                          # the reference stands at 0.25, 0.5, 0.5, 0.67, 0.6, 0.6
  loss.lambda_rank: {low: 0.0, high: 2.0}
  loss.lambda_local: {low: 0.0, high: 2.0}
  loss.margin: {low: 0.0, high: 1.0}
  optim.weight_decay: {low: 1.0e-6, high: 1.0e-2, log: true}
  optim.lr_global: {low: 1.0e-6, high: 1.0e-1, log: true}
  optim.lr_local: {low: 1.0e-5, high: 1.0, log: true}
search: {objective: val/nll, trials: 100000, epochs: 27, rungs: [1, 3, 9, 27], workers: 4}
"""
MANY = 10  # finished trials that make a rung worth modelling: TPE draws at random before it has ten

Landscape = Callable[[np.ndarray, int], float]
Seen = tuple[Trial, TrialState, float | None, dict[int, float]]  # a trial as Optuna is told of it
Policy = Callable[[Space, History], Iterator[Seen]]


# What Optuna is told


def highest(space: Space, history: History) -> Iterator[Seen]:
    """Every trial counts, with its loss at the highest rung it has finished."""
    for trial in history.trials.values():
        state = TrialState.COMPLETE if trial.rung else TrialState.RUNNING
        yield trial, state, trial.at(trial.rung, space.search.objective) if trial.rung else None, {}


def rung(space: Space, history: History) -> Iterator[Seen]:
    """Only losses of one rung count: the highest that enough trials have finished (BOHB, Falkner et al. 2018, §3.2)."""
    least, trials = max(MANY, len(space.tune) + 2), history.trials.values()
    full = [r for r in space.search.rungs if sum(t.rung >= r for t in trials) >= least]
    at = max(full, default=space.search.rungs[0])
    for trial in trials:
        if trial.rung >= at:
            yield trial, TrialState.COMPLETE, trial.at(at, space.search.objective), {}
        elif trial.promoted > trial.rung:
            yield trial, TrialState.RUNNING, None, {}


def pruned(space: Space, history: History) -> Iterator[Seen]:
    """Trials below the last rung are pruned: Optuna ranks them by rung first, then by loss, after all complete ones."""
    for trial in history.trials.values():
        losses = {r: trial.at(r, space.search.objective) for r in space.search.rungs if r <= trial.rung}
        if trial.rung >= space.search.epochs:
            yield trial, TrialState.COMPLETE, losses[trial.rung], losses
        else:
            yield trial, TrialState.PRUNED if losses else TrialState.RUNNING, None, losses


def nothing(_space: Space, _history: History) -> Iterator[Seen]:
    """Random sampling looks at nothing."""
    yield from ()


POLICIES: dict[str, tuple[str, Policy]] = {
    "highest": ("tpe", highest), "rung": ("tpe", rung), "pruned": ("tpe", pruned), "random": ("random", nothing),
}


class Told(FrozenTrial):
    """A trial that a new study may take as it is: copying 350 of them is most of a proposal's time."""

    def __deepcopy__(self, memo: dict[int, object]) -> "Told":
        return self


@dataclass
class View:
    """Stands in for `search.decide.sampler._study`: the study of a history as one policy tells it."""

    policy: Policy
    made: dict[tuple[object, ...], Told] = field(default_factory=dict)

    def __call__(self, space: Space, history: History) -> optuna.Study:
        study = optuna.create_study(direction="minimize")
        for seen in self.policy(space, history):
            trial, state, value, losses = seen
            key = (trial.number, state, value, len(losses))
            if key not in self.made:
                self.made[key] = told(space, seen)
            study.add_trial(self.made[key])
        return study


def told(space: Space, seen: Seen) -> Told:
    """Return the trial as Optuna keeps it."""
    trial, state, value, losses = seen
    now = datetime.now(UTC)
    return Told(
        number=-1, trial_id=-1, state=state, value=value, datetime_start=now,
        datetime_complete=now if state.is_finished() else None,
        params={p.name: trial.settings[p.name] for p in space.tune},
        distributions={p.name: sampler.distribution(p) for p in space.tune},
        user_attrs={}, system_attrs={}, intermediate_values=losses,
    )


# What is searched


def hartmann(bias: float, drift: float, seed: int) -> Landscape:
    """Return MF-Hartmann6 without noise, its axes shuffled by `seed`.

    As in mfpbench an early epoch lowers the peaks by bias (1 - ln epoch / ln 27)²; and every loss rises by `drift` from
    epoch 1 to 27, which leaves the order within a rung alone.
    """
    lowest = -3.32237
    peaks = np.array([1.0, 1.2, 3.0, 3.2])
    A = np.array([  # (4, d)
        [10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14], [3, 3.5, 1.7, 10, 17, 8], [17, 8, 0.05, 10, 0.1, 14],
    ])
    P = 1e-4 * np.array([  # (4, d)
        [1312, 1696, 5569, 124, 8283, 5886], [2329, 4135, 8307, 3736, 1004, 9991],
        [2348, 1451, 3522, 2883, 3047, 6650], [4047, 8828, 8732, 5743, 1091, 381],
    ])
    axes = np.random.default_rng(seed).permutation(6)

    def loss(x: np.ndarray, epoch: int) -> float:
        short = 1 - math.log(epoch) / math.log(EPOCHS)  # of the last rung: 1, 2/3, 1/3, 0
        return float(-(peaks - bias * short**2) @ np.exp(-(A * (x[axes] - P) ** 2).sum(1))) - lowest - drift * short

    return loss


def slow_starters(seed: int) -> Landscape:
    """Return a bowl whose best learning rates are low, and low ones come down slowly: high ones lead at first."""
    best = np.random.default_rng(seed).uniform(0.2, 0.8, 6)
    best[4:] = 0.25  # lr_global, lr_local

    def loss(x: np.ndarray, epoch: int) -> float:
        rate = 0.15 * 10 ** (2 * (x[4:].mean() - 0.25))  # an epoch
        return float(4 * ((x - best) ** 2).mean() + 2 * (math.exp(-rate * epoch) - math.exp(-rate * EPOCHS)))

    return loss


LANDSCAPES: dict[str, Callable[[int], Landscape]] = {
    "MF-Hartmann6, misleading (bias 3)": partial(hartmann, 3.0, 0.0),
    "MF-Hartmann6, mild (bias 1.5)": partial(hartmann, 1.5, 0.0),
    "MF-Hartmann6, mild, and losses rise (drift 2), as val/nll does when a model overfits": partial(hartmann, 1.5, 2.0),
    "slow starters": slow_starters,
}


# The clock


class Unwritten(Journal):
    """A journal that keeps nothing: the history alone is the search."""

    def __init__(self) -> None:
        pass

    def append(self, fact: Fact) -> Fact:
        return fact


def regrets(space: Space, landscape: Landscape, policy: Policy, budgets: Iterable[float]) -> list[float]:
    """Return the regret of one search after each of `budgets`, in full trainings."""
    sampler._study = View(policy)
    dispatcher = Dispatcher(space, Unwritten(), History(), Path("no checkpoints"))
    trials, working, clock, found = dispatcher.history.trials, list[tuple[int, int, Order]](), 0, []
    for budget in budgets:
        while True:
            while len(working) < WORKERS and (order := dispatcher.next()):
                heapq.heappush(working, (clock + order.to - trials[order.trial].rung, order.job, order))
            if not working or working[0][0] > budget * EPOCHS / WORKERS:
                break
            clock, _, order = heapq.heappop(working)
            loss = landscape(positions(space, trials[order.trial]), order.to)
            finish(dispatcher, order, loss)
        presented = dispatcher.ladder.leader(dispatcher.history)
        assert presented
        found.append(landscape(positions(space, presented), EPOCHS))
    return found


def finish(dispatcher: Dispatcher, order: Order, loss: float) -> None:
    """Report the last epoch of a job; nobody reads the others."""
    metrics = {dispatcher.space.search.objective: loss}
    dispatcher.take(Outcome(job=order.job, attempt=1, trial=order.trial, epoch=order.to, metrics=metrics))


def positions(space: Space, trial: Trial) -> np.ndarray:
    return np.array([position(p, trial.settings[p.name]) for p in space.tune])  # (d,)


def position(parameter: Parameter, value: float) -> float:
    low, high = parameter.low, parameter.high
    return math.log(value / low) / math.log(high / low) if parameter.log else (value - low) / (high - low)


# The report


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare what the sampler may be told of unfinished trials.")
    parser.add_argument("--seeds", type=int, default=20)
    seeds = range(parser.parse_args().seeds)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    print(f"{machine()}\nload       {load_average()} before")
    start = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "policy.yaml"
        file.write_text(SPACE)
        space = read_space(file)
    for name, landscape in LANDSCAPES.items():
        report(name, landscape, measure(space, landscape, seeds))
    print(f"\nload       {load_average()} after, {time.process_time() - start:.0f} s of CPU")


def measure(space: Space, landscape: Callable[[int], Landscape], seeds: range) -> dict[str, np.ndarray]:
    """Return each policy's regrets, (seeds, budgets and trials)."""
    return {name: np.array([row(space, landscape(seed), name, seed) for seed in seeds]) for name in POLICIES}


def row(space: Space, landscape: Landscape, name: str, seed: int) -> list[float]:
    """Return the regrets of one policy with one seed: a search without end, then those that end."""
    proposer, policy = POLICIES[name]
    endless = regrets(planned(space, proposer, seed, 100_000), landscape, policy, BUDGETS)
    ended = [regrets(planned(space, proposer, seed, n), landscape, policy, [math.inf]) for n in TRIALS]
    return endless + [regret for (regret,) in ended]


def planned(space: Space, proposer: str, seed: int, trials: int) -> Space:
    chosen = space.search.sampler.model_copy(update={"name": proposer, "seed": seed})
    return replace(space, search=space.search.model_copy(update={"sampler": chosen, "trials": trials}))


def report(name: str, landscape: Callable[[int], Landscape], found: dict[str, np.ndarray]) -> None:
    """Print mean regrets, and differences to `highest` in standard errors of the seeds' differences."""
    x = np.random.default_rng(0).random((2000, 6))
    losses = {epoch: [landscape(0)(row, epoch) for row in x] for epoch in (1, 3, 9, EPOCHS)}
    agree = ", ".join(f"{spearmanr(losses[e], losses[EPOCHS]).statistic:.2f} at {e}" for e in (1, 3, 9))
    print(f"\n{name}: rank correlation with epoch {EPOCHS}: {agree}; {len(found['highest'])} seeds")
    print(f"{'regret after full trainings':<28}" + "".join(f"{head:>18}" for head in (*BUDGETS, *(f"{n} trials" for n in TRIALS))))
    for policy, rows in found.items():
        print(f"  {policy:<26}" + cells(rows, "{:.2f} ± {:.2f}"))
    for policy in [p for p in found if p != "highest"]:
        print(f"  {policy + ' - highest':<26}" + cells(found[policy] - found["highest"], "{:+.2f} ({:+.1f} se)", in_errors=True))


def cells(rows: np.ndarray, form: str, *, in_errors: bool = False) -> str:
    """Return the means of the seeds' rows, each with its standard error, or with its distance from 0 in those."""
    means, errors = rows.mean(0), rows.std(0, ddof=1) / math.sqrt(len(rows))
    second = means / np.maximum(errors, 1e-12) if in_errors else errors
    return "".join(f"{form.format(*pair):>18}" for pair in zip(means, second, strict=True))


if __name__ == "__main__":
    main()
