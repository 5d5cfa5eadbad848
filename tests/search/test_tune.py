"""What Tune keeps of the jobs it has run for us: nothing, or a driver of thousands of jobs would only grow."""

import json
import subprocess
import sys

import pytest

from search.record.history import load
from tests.lab import Lab

COUNTING = """
import json, os, sys, weakref
from cluster import connect
os.environ.update(connect._SETTINGS)  # Tune reads some when first imported
from ray.tune.experiment import Trial
from search.run import tune_hooks
from search.cli import main

born, begin, end = weakref.WeakSet(), Trial.__init__, tune_hooks.Tick.on_experiment_end
count = 0

def counted(self, *given, **named):
    global count
    begin(self, *given, **named)
    born.add(self)
    count += 1

def told(self, trials, **info):
    print(json.dumps({"made": count, "kept": len(born)}), file=sys.stderr)
    end(self, trials, **info)

Trial.__init__, tune_hooks.Tick.on_experiment_end = counted, told
main()
"""


@pytest.mark.slow
def test_tune_keeps_none_of_the_jobs_that_are_over(tmp_path):
    lab = Lab(tmp_path / "lab").share()
    words = ["launch", "tiny.yaml", "--trials", "12", "--set", "search.epochs=1", "--set", "search.rungs=[1]"]
    done = subprocess.run([sys.executable, "-c", COUNTING, *words], cwd=lab.folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(load(lab.journal).trials) == 12
    told = json.loads(next(line for line in done.stderr.splitlines() if line.startswith('{"made"')))
    assert told["made"] >= 12
    assert told["kept"] <= 3  # the last one, and what a frame still holds
