"""What is to be written, while one sync is under way: nothing gathers without end."""

from collections.abc import Callable

import pytest

from consensus.messages import APPEND_RESPONSE, Entry, HardState, Message, MessageKind
from consensus.opening import open_log
from consensus.ready import Appended, StorageAppend
from consensus.writer import ANSWERS_MAX, Writer
from tests.consensus.disks import MemoryDisk

NODE = 1


class Hanging:
    """Syncs of which none is over before it is told so."""

    def at_once(self, _call: Callable[[], None], /) -> bool:
        return False

    async def __call__(self, call: Callable[[], None], /) -> None:
        raise NotImplementedError


class Writing:
    """A writer whose disk hangs with the first piece of work."""

    def __init__(self) -> None:
        self.done: list[StorageAppend] = []
        self._log = open_log(MemoryDisk(), "raft", owner=b"a node")
        self.writer = Writer(self._log, syncs=Hanging(), done=self.done.append, elsewhere=lambda: None)
        self.first = entries_of(1)
        self.writer.add(self.first)
        assert not self.writer.write()

    def answer(self, *responses: Message | Appended) -> StorageAppend:
        work = StorageAppend(None, (), None, must_sync=False, responses=responses)
        self.writer.add(work)
        return work

    def go_on(self) -> None:
        """The disk comes back."""
        while True:
            self._log.sync()
            self.writer.synced()
            while self.writer.write():
                pass
            if not self.writer._batch:
                return

    def responses(self) -> list[Message | Appended]:
        return [response for work in self.done for response in work.responses]


def entries_of(index: int) -> StorageAppend:
    return StorageAppend(None, (Entry(1, index),), None, must_sync=True, responses=(Appended(1, index, 1),))


def answer(index: int) -> Message:
    return Message(APPEND_RESPONSE, 2, NODE, 1, index)


@pytest.fixture
def writing() -> Writing:
    return Writing()


def test_answers_that_wait_for_a_disk_that_hangs_are_bounded_and_the_latest_leave(writing: Writing) -> None:
    for index in range(10 * ANSWERS_MAX):
        writing.answer(answer(index))
    assert len(writing.writer._waiting) == 1
    writing.go_on()
    _, *answers = writing.responses()
    assert ANSWERS_MAX <= len(answers) <= 2 * ANSWERS_MAX
    assert answers == [answer(index) for index in range(10 * ANSWERS_MAX)][-len(answers) :]


def test_what_the_node_says_to_itself_is_kept(writing: Writing) -> None:
    own = Message(MessageKind.PRE_VOTE_RESPONSE, NODE, NODE, 2)
    appended = Appended(1, 1, 1)
    writing.answer(own, appended)
    for index in range(10 * ANSWERS_MAX):
        writing.answer(answer(index))
    writing.go_on()
    assert [one for one in writing.responses() if isinstance(one, Appended) or one.to == NODE] == [
        *writing.first.responses,
        own,
        appended,
    ]


def test_what_is_said_again_and_again_takes_the_place_of_nothing_else(writing: Writing) -> None:
    appended = Appended(1, 1, 1)
    writing.answer(answer(0))
    for _ in range(10 * ANSWERS_MAX):
        writing.answer(answer(1), appended)
    assert len(writing.writer._waiting[0].responses) <= 2 * ANSWERS_MAX
    writing.go_on()
    assert {*writing.responses()} == {answer(0), answer(1), appended}


def test_each_answer_waits_for_all_before_it_and_what_is_written_stays_as_it_is(writing: Writing) -> None:
    early = writing.answer(answer(1))
    work = [
        entries_of(2),
        StorageAppend(HardState(1, 0, 2), (), None, must_sync=False, responses=()),
        StorageAppend(None, (), None, must_sync=True, responses=()),
    ]
    for one in work:
        writing.writer.add(one)
    late = writing.answer(answer(2))
    writing.go_on()
    assert list(map(id, writing.done)) == list(map(id, [writing.first, early, *work, late]))
