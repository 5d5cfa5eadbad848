from io import StringIO

import pytest
from rich.console import Console

from search.forecast import expected_epochs, seconds_left, spoken
from search.history import Trial
from search.journal import now
from search.screen import Screen, alpha_bars, ending, progress_line
from search.space import Search
from tests.search.conftest import run_to_end, train


def shown(what: object, width: int = 120) -> str:
    console = Console(file=StringIO(), width=width)
    console.print(what)
    return console.file.getvalue()


def test_the_forecast_counts_a_third_of_every_rung() -> None:
    # by hand: 24 to 1 epoch, 8 of them 2 more, 3 of them 6 more, 1 of them 18 more
    assert expected_epochs(Search(trials=24, epochs=27, rungs=(1, 3, 9, 27))) == 24 + 8 * 2 + 3 * 6 + 18


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
