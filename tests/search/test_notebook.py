"""Progress in a notebook: drawn over where ipywidgets is there, told in lines where it is not."""

import os

import nbformat
import pytest
from nbclient import NotebookClient

from tests.lab import SPACE

LAUNCH = "found = search.launch('tiny.yaml', trials=2, settings={'search.epochs': 2, 'search.rungs': [2]}, inline=True)"
WITHOUT = "import importlib.util as u; find = u.find_spec; u.find_spec = lambda name, *rest: None if name == 'ipywidgets' else find(name, *rest)\n"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")  # Jupyter's own
@pytest.mark.parametrize("widgets", [True, False])
def test_a_search_shows_its_table_in_a_notebook(widgets, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("FGSEARCH_HOME", str(tmp_path / "home"))
    (tmp_path / "tiny.yaml").write_text(SPACE)
    cells = [("" if widgets else WITHOUT) + "import search", LAUNCH, "print(found.state); found.trials()"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}, env=dict(os.environ)).execute()
    launched, last = notebook.cells[1].outputs, notebook.cells[2].outputs
    kinds = {kind for output in launched for kind in output.get("data", {})}
    assert ("application/vnd.jupyter.widget-view+json" in kinds) == widgets
    lines = "".join(output.get("text", "") for output in launched)
    assert ("2 of 2 started" in lines or "starting the workers" in lines) != widgets
    assert "Warning" not in lines
    assert "complete" in last[0].text
    assert "reference" in last[1].data["text/html"]
