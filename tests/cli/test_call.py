"""``meshnode call``: results, refusals and their exit codes."""

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from tests.cli.command import Outcome, meshnode
from tests.process.cluster import Cluster

pytestmark = [pytest.mark.process, pytest.mark.timeout(60)]

LONG_S = "600"
"""A refusal that waited for the deadline would run into the test's own."""

REASON = re.compile("a majority of its replicas|node [0-9a-f]{16} at [0-9.:]+ can't be reached")

_numbers = itertools.count()


@pytest.fixture
def agent() -> str:
    """An agent that no other test calls."""
    return f"counter/call-{next(_numbers)}"


@pytest.fixture(scope="module")
def bare_mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A node without an application."""
    cluster = Cluster(tmp_path_factory.mktemp("bare"))
    try:
        cluster.new_node(application=None).start()
        trio.run(cluster.settled)
        yield cluster
    finally:
        cluster.close()


@pytest.fixture(scope="module")
def odd_mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A node whose agents return what JSON does not have."""
    cluster = Cluster(tmp_path_factory.mktemp("odd"))
    try:
        cluster.new_node(application="tests.cli.results").start()
        trio.run(cluster.settled)
        yield cluster
    finally:
        cluster.close()


def call(mesh: Cluster, *arguments: object) -> Outcome:
    return meshnode("call", *arguments, "--node", mesh.nodes[0].address, "--timeout", LONG_S)


def total(mesh: Cluster, agent: str) -> object:
    return json.loads(call(mesh, agent, "total").out)


def test_a_call_prints_the_result_and_takes_named_or_positional_arguments(mesh: Cluster, agent: str) -> None:
    assert call(mesh, agent, "add", '{"n": 3}').out == "3\n"
    assert call(mesh, agent, "add", "[4]", "--json").json == 7
    assert total(mesh, agent) == 7


EVERYTHING = {
    "raw": {"base64": "AP9yYXc="},
    "day": "2024-02-29",
    "moment": "2024-02-29T12:30:00Z",
    "numbers": ["NaN", "Infinity", "-Infinity", 0.5],
    "by_number": {"1": {"base64": "b25l"}},
    "text": "größer",
}


@pytest.mark.parametrize(
    ("method", "expected"), [("everything", EVERYTHING), ("raw", {"base64": "AP9yYXc="}), ("nothing_to_say", "NaN")]
)
@pytest.mark.parametrize("flags", [(), ("--json",)], ids=["text", "json"])
def test_a_result_that_json_does_not_have_is_printed_all_the_same(
    odd_mesh: Cluster, method: str, expected: object, flags: tuple[str, ...]
) -> None:
    key = f"odd/{method}{len(flags)}"
    outcome = call(odd_mesh, key, method, *flags)
    assert (outcome.code, outcome.err) == (0, "")
    assert json.loads(outcome.out, parse_constant=pytest.fail) == expected
    assert total(odd_mesh, key) == 1


def test_calls_with_one_request_id_take_effect_once(mesh: Cluster, agent: str) -> None:
    for _ in range(3):
        assert call(mesh, agent, "add", '{"n": 5}', "--request-id", f"order-{agent}").out == "5\n"
    assert total(mesh, agent) == 5


def test_an_unknown_agent_type_is_not_found_and_the_known_ones_are_named(mesh: Cluster) -> None:
    message = call(mesh, "cuonter/42", "add", '{"n": 1}').message(5)
    assert "no agent type 'cuonter'" in message
    assert "counter" in message


def test_an_agent_type_that_the_nodes_application_lacks_is_not_found(bare_mesh: Cluster) -> None:
    assert "no agent type 'counter'" in call(bare_mesh, "counter/42", "add", '{"n": 1}').message(5)


def test_an_unknown_method_is_not_found_and_the_known_ones_are_named(mesh: Cluster, agent: str) -> None:
    message = call(mesh, agent, "ad", '{"n": 1}').message(5)
    assert "no handler 'ad'" in message
    assert "add" in message


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ('{"n": "three"}', "argument 'n': Expected `int`, got `str`"),
        ('{"n": 1.5}', "argument 'n': Expected `int`"),
        ("{}", "missing a required argument: 'n'"),
        ('{"n": 1, "m": 2}', "'m'"),
        ("[1, 2]", "too many positional arguments"),
    ],
)
def test_an_argument_that_does_not_fit_is_named_and_nothing_is_changed(
    mesh: Cluster, agent: str, arguments: str, named: str
) -> None:
    call(mesh, agent, "add", '{"n": 1}')
    message = call(mesh, agent, "add", arguments).message(1)
    assert named in message
    assert message.startswith("add(n: int)")
    assert total(mesh, agent) == 1


def test_a_handler_that_raises_is_told_by_type_and_message_and_changes_nothing(mesh: Cluster, agent: str) -> None:
    call(mesh, agent, "add", '{"n": 1}')
    assert call(mesh, agent, "spoil", '{"n": 7}').message(1) == "LookupError: spoiled by 7"
    assert total(mesh, agent) == 1
    assert call(mesh, agent, "add", '{"n": 1}').out == "2\n"


def test_a_turn_that_outlasts_its_caller_ends_as_a_timeout_and_changes_nothing(mesh: Cluster, agent: str) -> None:
    at = ("--node", mesh.nodes[0].address, "--timeout", "1")
    meshnode("call", agent, "dawdle", '{"seconds": 30}', *at).message(7)
    assert total(mesh, agent) == 0


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("counter", "add"), "'counter' is not TYPE/KEY, as in counter/42"),
        (("/42", "add"), "is not TYPE/KEY"),
        (("counter/42", "add", "{n: 3}"), "the arguments '{n: 3}' are not JSON"),
        (("counter/42", "add", "[" * 5000), "are not JSON: maximum recursion depth exceeded"),
        (("counter/42", "add", f"[{'9' * 5000}]"), "are not JSON: Exceeds the limit"),
        (("counter/\udcff", "add"), r"'counter/\udcff' has no UTF-8 form"),
        (("counter/42", "ad\udcffd"), r"'ad\udcffd' has no UTF-8 form"),
        (("counter/42", "add", "[1]", "--request-id", "\udcff"), r"'\udcff' has no UTF-8 form"),
        (("counter/42", "add", "3"), "neither a JSON object nor an array"),
        (("counter/42", "__class__"), "'__class__' is no method of an agent"),
        (("counter/42", "add", "[1]", "--timeout", "0"), "--timeout 0.0: choose a number of seconds above 0"),
        (("counter/42", "add", "[1]", "--timeout", "nan"), "--timeout nan: choose a number of seconds above 0"),
        (("counter/42", "add", "[1]", "--timeout", "inf"), "--timeout inf: choose a number of seconds above 0"),
        (("counter/42", "add", "[1]", "--timeout", "soon"), "'soon' is not a valid float"),
        (("counter/42", "add", "[1]", "--node", "here:there"), "'here:there' is not HOST:PORT"),
    ],
)
def test_wrong_usage_is_explained_without_asking_a_node(arguments: tuple[str, ...], hint: str) -> None:
    assert hint in meshnode("call", *arguments).hint()


def test_a_key_that_is_too_long_is_refused(mesh: Cluster) -> None:
    assert "a key is a string of 1 to 512 characters" in call(mesh, f"counter/{'k' * 513}", "total").message(1)


def test_without_a_majority_a_call_is_unavailable_within_its_timeout(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path)
    try:
        trio.run(cluster.form, 2)
        cluster.nodes[1].kill()
        at = ("--node", cluster.nodes[0].address, "--timeout", "1")
        outcomes = []
        for _ in range(20):  # the first ones may have reached a node that then died: their outcome is unknown
            outcomes.append(meshnode("call", "counter/42", "add", '{"n": 1}', *at))
            if outcomes[-1].code == 6 and REASON.search(outcomes[-1].err):
                break
        assert {outcome.code for outcome in outcomes} <= {6, 7}
        message = outcomes[-1].message(6)
        assert message.startswith("counter/42.add: no answer within 1 s. ")
        assert REASON.search(message)
    finally:
        cluster.close()
