"""Draws docs/search.svg: the live table of a real search at a moment of it, as a terminal shows it.

Run it as `python docs/screen.py fgsearch-home/searches/finches/journal.jsonl --facts 0.45 > docs/search.svg`.
"""

import argparse
import io
import re
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI

from search.record.history import History, space_of
from search.record.journal import read
from search.show.screen import Screen

WIDTH, HEIGHT = 126, 24


def main() -> None:
    """Print the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("journal", type=Path)
    parser.add_argument("--facts", type=float, default=0.45, help="the moment: this share of the journal's lines")
    given = parser.parse_args()
    facts = list(read(given.journal))
    print(picture(History.of(facts[: int(len(facts) * given.facts)])))


def picture(history: History) -> str:
    """Return the screen as SVG; its fonts are the reader's own, nothing is fetched."""
    console = Console(record=True, width=WIDTH, height=HEIGHT, file=io.StringIO(), force_terminal=True)
    console.print(Screen(console, space_of(history), history).view())
    drawn = console.export_svg(title="fgsearch launch spaces/finches.yaml", theme=MONOKAI)
    return re.sub(r"@font-face \{.*?\}", "", drawn, flags=re.DOTALL)


if __name__ == "__main__":
    main()
