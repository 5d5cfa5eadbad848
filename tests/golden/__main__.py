"""`make golden`: writes what every shipped space comes to now, to be looked at with git diff and committed."""

from pathlib import Path
from tempfile import TemporaryDirectory

from search.space.shipped import shipped
from tests.golden.resolved import FOLDER, as_text, resolved

for left in FOLDER.glob("*.json"):
    left.unlink()
with TemporaryDirectory() as cache:
    for name in shipped():
        (FOLDER / f"{name}.json").write_text(as_text(resolved(name, Path(cache))))
