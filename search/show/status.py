"""Where searches stand, for a person and for a script: read from their journals, whether or not they run."""

import time
from pathlib import Path
from typing import Any

from fgmodel.lock import held
from search.decide import race
from search.decide.forecast import seconds_left
from search.errors import InputError
from search.record.history import space_of
from search.record.home import Home

STOP_SECONDS = 120.0  # an epoch under way is waited for no longer than this


def running(journal: Path) -> bool:
    """Whether a process is writing to this journal now."""
    return held(journal)


def summary(home: Home, name: str) -> dict[str, Any]:
    """Return a search's state as plain values."""
    history = home.history(name)
    search = space_of(history).search
    best = race.best(search, history)
    live = running(home.journal(name))
    states = [history.state(trial, search.epochs) for trial in history.trials.values()]
    how = history.finished.how if history.finished else "interrupted"
    return {
        "search": name,
        "state": "running" if live else how,
        "trials": search.trials,
        "started": len(history.candidates),
        "states": {state: states.count(state) for state in sorted(set(states))},
        "rungs": {rung: sum(t.rung >= rung for t in history.candidates) for rung in search.rungs},
        "objective": search.objective,
        "best": best
        and {
            "trial": best.number,
            "rung": best.rung,
            "value": best.at(best.rung, search.objective),
            "settings": best.settings,
        },
        "finalists": [
            {"trial": c.trial.number, "mean": c.mean, "sd": c.sd, "seeds": len(c.values)}
            for c in race.confirmed(search, history)
        ],
        "failures": {t.number: t.failure for t in history.trials.values() if t.reason},
        "seconds_left": seconds_left(search, history) if live else None,
        "test_opened": len(history.tests),
        "journal": str(home.journal(name)),
    }


def stop(home: Home, name: str) -> bool:
    """Ask a running search to stop and wait until it has; False when it was not running."""
    journal, flag = home.journal(name), home.stop_flag(name)
    if not running(journal):
        home.history(name)  # says so where there is none
        return False
    flag.touch()
    patience = time.monotonic() + STOP_SECONDS
    while running(journal):
        if time.monotonic() > patience:
            raise InputError(f"search '{name}' has not stopped after {STOP_SECONDS:.0f} s; it will once its epochs end")
        time.sleep(0.2)
    return True
