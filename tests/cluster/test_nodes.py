"""What fits on which node, what a probe's answer means, and a token that only its owner can read."""

import stat

import pytest

from cluster.nodes import Node, places
from cluster.probe import NodeAnswer, Question, differences, judge
from cluster.raylets import status
from cluster.token import token_environment, use_token, write_token
from search.errors import InputError
from search.run.resources import require_fit
from search.space.file import read_space
from tests.search.conftest import SPACES

SMALL, BIG = Node("a", "small", cpu=2, gpu=0), Node("b", "big", cpu=8, gpu=4)
OWN = {"python": "3.11", "ray": "2.60.0", "torch": "2.14.1", "fgsearch": "code 0123"}
QUESTION = Question("/shared/searches/tiny/probe", "abc", ("/data/cub",))


@pytest.mark.parametrize(
    ("cpu", "gpu", "small", "big"),
    [
        pytest.param(1, 0, 2, 8, id="cores alone"),
        pytest.param(4, 0, 0, 2, id="more cores than the small node has"),
        pytest.param(1, 1, 0, 4, id="a GPU each"),
        pytest.param(4, 1, 0, 2, id="the scarcer of the two decides"),
        pytest.param(0.5, 1 / 3, 0, 12, id="thirds of a GPU add up to a whole one"),
        pytest.param(1, 8, 0, 0, id="more GPUs than any node has"),
    ],
)
def test_a_node_holds_as_many_trials_as_its_scarcest_resource_allows(cpu, gpu, small, big) -> None:
    assert (SMALL.places(cpu, gpu), BIG.places(cpu, gpu)) == (small, big)
    assert places([SMALL, BIG], cpu, gpu) == small + big


def test_a_trial_that_needs_more_than_any_single_node_has_is_refused_in_one_line() -> None:
    space = read_space(SPACES / "finches.yaml", ["search.resources.cpu=4", "search.resources.gpu=8"])
    with pytest.raises(InputError) as refusal:
        require_fit(space, [SMALL, BIG])
    assert str(refusal.value) == (
        "search.resources: a trial needs 4 CPU and 8 GPU, and no node has that: small (2 CPU, 0 GPU), big (8 CPU, 4 GPU); set less"
    )


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        pytest.param(NodeAnswer("abc", None, (), OWN), None, id="all is well"),
        pytest.param(NodeAnswer(None, "No such file or directory", (), OWN), "does not see /shared/searches/tiny/probe; the home must be a folder that every node shares, at the same path", id="no shared folder"),
        pytest.param(NodeAnswer("xyz", None, (), OWN), "has another folder at /shared/searches/tiny/probe; the home must be one that every node shares", id="a folder of its own"),
        pytest.param(NodeAnswer("abc", "Read-only file system", (), OWN), "cannot write into /shared/searches/tiny/probe: Read-only file system", id="read only"),
        pytest.param(NodeAnswer("abc", None, ("/data/cub",), OWN), "does not see /data/cub; data must be at the same path on every node", id="no data"),
        pytest.param(NodeAnswer("abc", None, (), OWN | {"torch": "2.9.0"}), "runs torch 2.9.0, here 2.14.1; install the same on every node", id="another torch"),
        pytest.param(NodeAnswer("abc", None, (), OWN | {"fgsearch": "missing"}), "runs fgsearch missing, here code 0123; install the same on every node", id="no fgsearch"),
    ],
)
def test_a_probe_says_in_one_line_why_a_node_cannot_take_part(answer, said) -> None:
    assert judge(answer, QUESTION, OWN) == said


def test_the_same_versions_do_not_differ() -> None:
    assert differences(OWN, dict(OWN)) is None


def test_a_token_is_made_once_and_only_its_owner_can_read_it(tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    assert token_environment(tmp_path) == {}
    path = write_token(tmp_path)
    first = path.read_text()
    assert len(first) == 64
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    assert write_token(tmp_path).read_text() == first
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert token_environment(tmp_path) == {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(path)}


def test_the_users_own_token_goes_before_the_homes(tmp_path, monkeypatch) -> None:
    write_token(tmp_path)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/elsewhere")
    use_token(tmp_path)
    assert token_environment(tmp_path) == {}


def test_a_home_without_a_cluster_has_none(tmp_path) -> None:
    assert status(tmp_path) is None
