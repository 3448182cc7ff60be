"""Views, where real nodes would have to be made to fail."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing

from meshnode import views, wire
from meshnode.control import Query, View
from meshnode.errors import InvalidArgument, MeshError, Overloaded, Unavailable
from meshnode.identity import Address, Boot, NodeId, PartitionId
from meshnode.membership.messages import Member, first_incarnation
from tests.agents.fake_host import FakeHost

HERE, THERE = NodeId(0x70391C38CDAD9D87), NodeId(0x0123456789ABCDEF)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


def member(node_id: NodeId, name: str) -> Member:
    return Member(node_id, name, Address("127.0.0.1", 1), Boot(1), first_incarnation(Boot(1)))


@dataclass
class Node:
    """What a view takes of a node: agents of its own, and another node that gives one answer, or none."""

    own: list[tuple[PartitionId, str, str]] = field(default_factory=list)
    answer: View | None = None
    error: MeshError | None = None
    asked: list[Query] = field(default_factory=list)

    def __post_init__(self) -> None:
        members = {node_id: member(node_id, name) for node_id, name in ((HERE, "here"), (THERE, "there"))}
        self.host = FakeHost()
        self.node_id = HERE
        self.membership = SimpleNamespace(members=members)
        self.metadata = SimpleNamespace(nodes=members)
        self.reception = SimpleNamespace(views=SimpleNamespace(ask=self._ask))
        self.agents = SimpleNamespace(agents=self._agents)

    def _agents(self) -> Iterator[tuple[PartitionId, str, str]]:
        return iter(self.own)

    async def _ask(self, peer: NodeId, question: Any) -> View:
        assert peer == THERE
        self.asked.append(question(1))
        if self.answer is None:
            await trio.sleep_forever()
        return self.answer

    async def leave(self) -> None:
        assert self.error is not None
        raise self.error


def says(value: object) -> View:
    return View(1, "", wire.dumps(value))


async def ask(node: Any) -> Any:
    return await views.ask_node(node, THERE, "raft_status", limit=3)


async def test_a_refusal_of_another_node_keeps_its_kind_and_its_words() -> None:
    with pytest.raises(Overloaded, match="1024 questions are under way"):
        await ask(Node(answer=View(1, "overloaded", b"1024 questions are under way")))


async def test_a_node_that_does_not_answer_is_unavailable_by_name() -> None:
    with pytest.raises(Unavailable, match="no answer from there within 5 s"):
        await ask(Node())


async def test_an_answer_that_can_not_be_read_is_an_error_of_this_package() -> None:
    with pytest.raises(MeshError, match="the answer of there can't be read"):
        await ask(Node(answer=View(1, "", b"\xff")))


async def test_an_answer_and_the_arguments_of_its_question_arrive_as_they_are() -> None:
    node = Node(answer=says({"role": "leader"}))
    assert await ask(node) == {"role": "leader"}
    assert node.asked == [Query(1, "raft_status", wire.dumps({"limit": 3}))]


OWN = [(PartitionId(number), "counter", f"{number:02}") for number in range(10)]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (View(1, "overloaded", b"too many questions"), "too many questions"),
        (says([["counter", "42", 1]]), "it runs another version"),
        (says({"total": 1, "agents": [["counter", 42, 1]]}), "it runs another version"),
        (None, "no answer from there within 5 s"),
    ],
)
async def test_a_node_that_can_not_tell_its_agents_is_named_with_the_reason(answer: View | None, reason: str) -> None:
    node: Any = Node(own=OWN, answer=answer)
    listed = await views.agents(node, {})
    assert [agent["key"] for agent in listed["agents"]] == [key for _partition, _type, key in OWN]
    assert listed["total"] == 10
    (silent,) = listed["silent"]
    assert silent["node"] == "there"
    assert reason in silent["reason"]


async def test_a_page_is_the_first_of_all_agents_wherever_they_are() -> None:
    node: Any = Node(own=OWN, answer=says({"total": 3, "agents": [["a", "1", 0], ["counter", "015", 1]]}))
    listed = await views.agents(node, {"limit": 4})
    assert [(agent["type"], agent["key"], agent["node"]) for agent in listed["agents"]] == [
        ("a", "1", "there"),
        ("counter", "00", "here"),
        ("counter", "01", "here"),
        ("counter", "015", "there"),
    ]
    assert listed["total"] == 13
    assert node.asked == [Query(1, "agents_here", wire.dumps({"after": ["", ""], "limit": 4}))]


async def test_a_page_begins_after_an_agent_and_its_total_counts_those_before_too() -> None:
    node: Any = Node(own=OWN[::-1])
    page = await views.agents_here(node, {"after": ["counter", "06"], "limit": 2})
    assert page == {"total": 10, "agents": [["counter", "07", 7], ["counter", "08", 8]]}


async def test_a_page_of_the_longest_agents_there_can_be_fits_into_a_frame_of_every_node() -> None:
    from meshnode.config import FRAME_BYTES_MIN

    longest = [(PartitionId(16_383), "\U0001f600" * 128, f"{number:04}" + "\U0001f600" * 508) for number in range(1000)]
    node: Any = Node(own=longest, answer=says({"total": 0, "agents": []}))
    node.membership.members[HERE] = member(HERE, "n" * 255)
    listed = await views.agents(node, {})
    assert len(listed["agents"]) == views.PAGE_MAX == 1000
    assert len(wire.dumps(listed)) < FRAME_BYTES_MIN


@pytest.mark.parametrize(
    "arguments",
    [{"limit": 0}, {"limit": 1001}, {"limit": "all"}, {"limit": None}, {"after": "counter/1"}, {"after": [1, 2]}],
)
async def test_a_page_that_can_not_be_is_refused(arguments: dict[str, object]) -> None:
    node: Any = Node(own=OWN)
    with pytest.raises(InvalidArgument, match=r"limit .*: choose 1 to 1000|after takes"):
        await views.agents_here(node, arguments)


async def test_why_a_node_can_not_leave_is_told_with_names() -> None:
    error = Unavailable(
        f"the Raft group did not agree: node {HERE:d} knows of no leader in term 5, nor does {THERE:016x}"
    )
    node: Any = Node(error=error)
    with pytest.raises(Unavailable, match=r"node here knows of no leader in term 5, nor does there$"):
        await views.leave(node, {})
