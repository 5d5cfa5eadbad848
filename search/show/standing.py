"""The order in which trials are shown everywhere: highest rung first, best first within it."""

from search.decide.asha import Ladder
from search.record.history import History, Trial
from search.space.space import Space


def ranked(space: Space, history: History) -> list[Trial]:
    """Return the trials that finished a rung and did not fail, the best first."""
    ladder = Ladder(space.search)
    done = (t for t in history.candidates if t.rung and not t.reason)
    return sorted(done, key=lambda t: (-t.rung, ladder.key(t, t.rung)))


def standings(space: Space, history: History) -> dict[int, float]:
    """Return each trial's standing, 0..1, by number: the share of the others it is ahead of; diverged ones stand last.

    Trials without a finished rung that did not diverge have none.
    """
    placed, last = ranked(space, history), [t for t in history.candidates if t.reason == "divergence"]
    most = max(1, len(placed) + len(last) - 1)
    return {t.number: 1 - k / most for k, t in enumerate(placed)} | {t.number: 0.0 for t in last}
