import math
import re
from io import StringIO
from itertools import pairwise

import pytest
import typer
from rich.console import Console

from search.commands import searches
from search.decide.forecast import expected_epochs, seconds_left, spoken
from search.record.history import History, Trial
from search.record.journal import now
from search.show import screen
from search.show.screen import Screen, Steps, alpha_bars, ending, preparing, progress_line, sparkline, trial_table
from search.space.space import Plan, Space
from tests.search.conftest import run_to_end, train


def shown(what: object, width: int = 120) -> str:
    console = Console(file=StringIO(), width=width)
    console.print(what)
    return console.file.getvalue()


def test_the_forecast_counts_a_third_of_every_rung() -> None:
    # by hand: 24 to 1 epoch, 8 of them 2 more, 3 of them 6 more, 1 of them 18 more
    assert expected_epochs(Plan(trials=24, epochs=27, rungs=(1, 3, 9, 27))) == 24 + 8 * 2 + 3 * 6 + 18


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (3599, "59 min 59 s"), (3 * 3600 + 600, "3 h 10 min")],
)
def test_durations_are_spoken(seconds, words) -> None:
    assert spoken(seconds) == words


def test_nothing_is_left_of_a_complete_search(space, dispatching) -> None:
    dispatcher = dispatching(space)
    assert seconds_left(space.search, dispatcher.history) is None
    train(dispatcher, dispatcher.next())
    assert seconds_left(space.search, dispatcher.history) > 0
    run_to_end(dispatcher)
    assert seconds_left(space.search, dispatcher.history) == 0


def test_the_progress_line_tells_rungs_failures_and_the_best(space, dispatching) -> None:
    dispatcher = dispatching(space)
    for _ in range(6):
        train(dispatcher, dispatcher.next())
    said = progress_line(space, dispatcher.history)
    for words in ("of 24 started", "at rung 1", "0 failed", "best #", "left"):
        assert words in said


def test_the_ending_names_the_best_the_reference_and_the_next_steps(space, dispatching) -> None:
    dispatcher = dispatching(space)
    run_to_end(dispatcher)
    dispatcher.finish("stopped")
    said = shown(ending(space, dispatcher.history, ["export   fgsearch export finches"]))
    assert "complete: best #" in said
    assert "*#0, the thesis' values" in said
    assert "  export   fgsearch export finches" in said


def test_the_command_that_goes_on_is_one_line_however_narrow_the_terminal(space, dispatching, monkeypatch) -> None:
    dispatcher = dispatching(space)
    train(dispatcher, dispatcher.next())
    dispatcher.finish("stopped")
    go_on = "go on    fgsearch launch spaces/finches.yaml --name mine --set search.finalists=0 --set search.trials=4"
    monkeypatch.setattr(searches, "out", Console(file=StringIO(), width=60))
    with pytest.raises(typer.Exit):
        searches.tell_end(space, dispatcher.history, [go_on])
    lines = searches.out.file.getvalue().splitlines()
    assert f"  {go_on}" in lines   # to be copied
    assert all(len(line) <= 60 for line in lines[:3])   # the table keeps to it


def test_an_ending_without_a_finished_rung_says_so(space, dispatching) -> None:
    assert "no trial has finished a rung" in shown(ending(space, dispatching(space).history, ["go on"]))


def test_without_a_terminal_the_screen_prints_plain_lines(space, dispatching) -> None:
    dispatcher = dispatching(space)
    console = Console(file=StringIO(), width=120)
    with Screen(console, space, dispatcher.history) as screen:
        screen.tick()
        screen.tick()
    assert console.file.getvalue().count("started") == 1, "one line now, the next in a while"
    assert "\x1b" not in console.file.getvalue()


def test_attention_is_drawn_as_bars_of_which_the_tallest_is_the_largest() -> None:
    trial = Trial(0, {}, "tpe", now(), reports={1: {"attention/alpha/01": 0.1, "attention/alpha/02": 0.8, "attention/alpha/03": 0.1}})
    assert alpha_bars(trial) == "▂█▂"


def test_a_sparkline_goes_from_the_lowest_to_the_highest_and_dots_what_was_not_measured() -> None:
    assert sparkline([0.0, 0.5, 1.0, math.nan], 0.0, 1.0) == "▁▅█·"
    assert sparkline([0.3, 0.3], 0.3, 0.3) == "▁▁"


def made(space: Space) -> History:
    """Two trials of nine epochs with attention."""
    history = History()
    for number in range(2):
        alphas = {"attention/alpha/01": 0.25, "attention/alpha/02": 0.75, "attention/entropy": 0.81}
        reports = {e: {"val/accuracy": e / 10 + number / 100, "val/nll": 1.0} | alphas for e in range(1, 10)}
        history.trials[number] = Trial(number, space.reference(), "tpe", now(), reports=reports, rung=9)
    return history


def test_each_trial_shows_its_rung_its_sparkline_and_its_attention_with_entropy(space) -> None:
    first, row = shown(trial_table(space, made(space))).splitlines()[:2]
    assert first.split()[:9] == ["trial", "rung", "val/accuracy", "by", "epoch", "α", "over", "t", "entropy"]
    assert row.split()[:6] == ["#1", "9", "0.910", "▁▂▃▄▅▅▆▇█", "▃█", "0.81"]


@pytest.mark.parametrize("width", [20, 40, 60, 80, 100, 200])
def test_the_table_keeps_to_the_width_it_has_and_says_when_it_leaves_something_out(space, width) -> None:
    lines = shown(trial_table(space, made(space)), width).rstrip().splitlines()
    assert max(len(line) for line in lines) <= width
    assert len(lines) == 3, "no line is broken"
    assert ("…" in lines[0]) == (width < 95)  # twelve columns of 71 characters, each with a space on both sides
    assert lines[0].split()[0] == "trial"


def screened(space: Space, console: Console) -> str:
    with Screen(console, space, made(space)) as screen:
        screen.tick()
    return console.file.getvalue()


def test_without_colour_the_live_table_has_none(space, monkeypatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    said = screened(space, Console(file=StringIO(), width=120, force_terminal=True))
    colours = re.findall(r"\x1b\[([0-9;]*)m", said)
    assert not [c for c in colours if {int(n or 0) for n in c.split(";")} & {*range(30, 50), *range(90, 108)}]


def test_a_terminal_that_nothing_can_be_drawn_over_gets_plain_lines(space, monkeypatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    said = screened(space, Console(file=StringIO(), width=200, force_terminal=True))
    assert said.count("started") == 1
    assert "\x1b" not in said


def test_the_live_table_is_drawn_anew_only_when_it_has_something_new_to_say(space, monkeypatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("search.show.screen.REFRESH_SECONDS", 0.0)
    history, console = made(space), Console(file=StringIO(), width=120, force_terminal=True)
    with Screen(console, space, history) as screen:
        drawn = [tables(console, screen) for _ in range(3)]
        history.facts += 1
        drawn.append(tables(console, screen))
    assert [b - a for a, b in pairwise(drawn)] == [0, 0, 1]


def tables(console: Console, screen: Screen) -> int:
    screen.tick()
    return console.file.getvalue().count("val/accuracy")


def test_a_terminal_that_was_resized_is_cleared_before_the_table_is_drawn(space, monkeypatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("search.show.screen.REFRESH_SECONDS", 0.0)
    console = Console(file=StringIO(), width=120, height=30, force_terminal=True)
    with Screen(console, space, made(space)) as screen:
        screen.tick()
        assert "\x1b[2J" not in console.file.getvalue()
        console.size = (60, 20)
        screen.tick()
        assert "\x1b[2J" in console.file.getvalue()


def test_preparation_without_a_terminal_says_now_and_then_how_far_it_is(monkeypatch):
    monkeypatch.setattr(screen, "LINE_SECONDS", 0.0)
    console = Console(file=StringIO(), width=100)
    with preparing(console) as progress:
        steps = Steps(progress)
        for done in range(0, 1001, 250):
            steps("images decoded", done, 1000)
        lines = console.file.getvalue().splitlines()
    assert [line.partition(", about")[0] for line in lines] == [f"images decoded: {n} of 1,000" for n in (0, 250, 500, 750)]


def test_a_short_preparation_without_a_terminal_is_drawn_once():
    console = Console(file=StringIO(), width=100)
    with preparing(console) as progress:
        Steps(progress)("images decoded", 5, 10)
        assert console.file.getvalue() == ""
        Steps(progress)("images decoded", 10, 10)
    assert "10 of 10" in console.file.getvalue()
