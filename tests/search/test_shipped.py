"""A space file is found by its path or, if it is shipped, by its name; whatever else is typed is told what is nearest."""

import pytest

from search.commands.options import space_names
from search.errors import InputError, Problems
from search.space.file import read_space
from search.space.shipped import FOLDER, STUDIES, find_space, named, shipped
from search.studies.study import find_study
from tests.search.conftest import SPACES


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_checkout_ships_the_very_files_of_its_spaces_folder() -> None:
    assert sorted(shipped().values()) == sorted(SPACES.rglob("*.yaml"))


def test_no_study_has_the_name_of_a_space() -> None:
    assert not named(FOLDER).keys() & named(STUDIES).keys()


def test_shipped_spaces_and_studies_are_found_by_name_in_any_folder(elsewhere) -> None:
    assert find_space("finches") == FOLDER / "finches.yaml"
    assert find_space("table-5.1") == find_study("table-5.1") == STUDIES / "table-5.1.yaml"
    assert read_space(find_space("cub-frozen")).name == "cub-frozen"


def test_a_file_that_is_there_is_meant_before_a_shipped_one_and_a_folder_is_not(elsewhere) -> None:
    (elsewhere / "finches").mkdir()   # of data, say
    assert find_space("finches") == FOLDER / "finches.yaml"
    (elsewhere / "cub").touch()
    assert str(find_space("cub")) == "cub"


def test_a_study_of_ones_own_is_found_in_the_folder_of_studies(elsewhere) -> None:
    (elsewhere / "spaces" / "thesis").mkdir(parents=True)
    (elsewhere / "spaces" / "thesis" / "mine.yaml").touch()
    assert str(find_study("mine")) == "spaces/thesis/mine.yaml"


@pytest.mark.parametrize(("given", "said"), [
    pytest.param("finchs", "'finchs' is no space; did you mean 'finches'?", id="a name"),
    pytest.param("spaces/finches.yaml", "spaces/finches.yaml: there is no such file; did you mean 'finches'?", id="a path, from the folder of a checkout"),
    pytest.param("spaces/thesis/table-5.1.yaml", "spaces/thesis/table-5.1.yaml: there is no such file; did you mean 'table-5.1'?", id="a study's path"),
    pytest.param("qqq", "'qqq' is no space; by name there are cub, cub-frozen, dogs, finches, chapter-7,", id="nothing near"),
    pytest.param("qqq.yaml", "qqq.yaml: there is no such file; by name there are cub,", id="a file, nothing near"),
])
def test_what_is_neither_a_file_nor_shipped_is_told_in_one_line_with_what_is_nearest(given, said, elsewhere) -> None:
    with pytest.raises(InputError) as raised:
        find_space(given)
    assert str(raised.value).startswith(said)
    assert "\n" not in str(raised.value)


def test_a_folder_that_has_no_shipped_name_is_left_to_whoever_reads_it(elsewhere) -> None:
    (elsewhere / "mine").mkdir()
    with pytest.raises(InputError, match="mine: is a folder; name a YAML file in it"):
        read_space(find_space("mine"))


def test_a_mistake_that_comes_of_a_shipped_file_names_the_file_and_its_line() -> None:
    with pytest.raises(Problems) as raised:
        read_space(find_space("finches"), ["model.local_stream=none"])
    number = (SPACES / "finches.yaml").read_text().splitlines().index("  model.hidden_size: 256") + 1
    assert str(raised.value).startswith(f"{SPACES}/finches.yaml:{number}: 'model.hidden_size'")


def test_tab_offers_shipped_names_with_the_files_beside_them_and_leaves_paths_to_the_shell(elsewhere) -> None:
    (elsewhere / "cub-mine.yaml").touch()
    (elsewhere / "other.yaml").touch()
    assert space_names("cub") == ["cub", "cub-frozen", "cub-mine.yaml"]
    assert space_names("other") == space_names("../sp") == []
