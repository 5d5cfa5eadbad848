"""The pages are built without a warning, and say of every setting what the types say."""

import html
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fgmodel.config import TrialConfig
from search.space.space import Plan, Resources, Sampler
from tests.docs.shown import ROOT

pytest.importorskip("furo", reason="pip install fgsearch[docs]")


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """Return the folder of the built pages."""
    out = tmp_path_factory.mktemp("pages")
    words = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-d", str(out / "trees"), "docs", str(out / "html")]
    said = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (said.returncode, said.stderr) == (0, "")
    return out / "html"


def rows(page: Path) -> dict[str, list[str]]:
    """Return the cells of every table row of a page, by the first cell."""
    cells = [re.findall(r"<td>(.*?)</td>", row, re.DOTALL) for row in re.findall(r"<tr.*?</tr>", page.read_text(), re.DOTALL)]
    plain = [[html.unescape(re.sub(r"<.*?>", "", cell)).strip() for cell in row] for row in cells if row]
    return {row[0]: row[1:] for row in plain}


def test_every_page_is_built_and_in_the_contents(built) -> None:
    contents = (built / "index.html").read_text()
    for page in (ROOT / "docs").glob("*.md"):
        assert (built / f"{page.stem}.html").exists()
        assert page.stem == "index" or f'href="{page.stem}.html"' in contents


def test_the_reference_has_every_setting_with_a_meaning(built) -> None:
    found = rows(built / "space-file.html")
    settings = {*TrialConfig().settings(), *(f"search.{n}" for n in Plan.model_fields if n not in ("sampler", "resources"))}
    settings |= {f"search.sampler.{n}" for n in Sampler.model_fields} | {f"search.resources.{n}" for n in Resources.model_fields}
    assert settings <= set(found)
    assert all(found[name][-1] for name in settings)


@pytest.mark.parametrize(
    ("name", "holds", "default", "meaning"),
    [
        ("loss.lambda_rank", "number, from 0 to 100", "0.5", "Eq. 3.8"),
        ("loss.margin", "number, from 0 to 1", "0.5", "Eq. 3.11"),
        ("model.attention", "per_step, shared, last, mean, sum", "per_step", "Eq. 3.6"),
        ("optim.lr_local", "number, above 0 to 10", "0.01", "thesis 0.01"),
        ("model.fusion_weight", "number, from 0 to 100; or null", "null", "λ'"),
        ("search.promote", "true or false", "true", "stopped"),
    ],
)
def test_a_row_of_the_reference_says_kind_range_default_and_equation(name, holds, default, meaning, built) -> None:
    row = rows(built / "space-file.html")[name]
    assert row[:2] == [holds, default]
    assert meaning in row[2].replace("\u2019", "'")


def test_pages_fetch_nothing(built) -> None:
    for page in built.glob("*.html"):
        assert not re.findall(r'<(?:script|img|link)[^>]*(?:src|href)="https?://', page.read_text()), page.name
    assert "http" not in re.sub(r'xmlns(:\w+)?="[^"]*"|Generated .*', "", (ROOT / "docs" / "search.svg").read_text())


@pytest.mark.slow
@pytest.mark.parametrize(("width", "names"), [
    pytest.param(1400, [path.stem for path in sorted((ROOT / "docs").glob("*.md"))], id="every page"),
    pytest.param(390, ["index", "how-it-works", "reading-the-report"], id="on a phone"),
])  # fmt: skip
def test_pages_open_in_a_browser_with_their_pictures(built, page, width, names) -> None:
    page.set_viewport_size({"width": width, "height": 1000})
    for name in names:
        page.goto((built / f"{name}.html").as_uri())
        page.locator("h1").first.wait_for()
        assert page.evaluate("[...document.images].filter(image => !image.naturalWidth && image.loading !== 'lazy').map(i => i.src)") == []
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth + 1"), f"{name} sticks out sideways"
    page.goto((built / "index.html").as_uri())
