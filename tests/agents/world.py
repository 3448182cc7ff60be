"""One partition with a primary, and a log that commits when the test says so."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import trio
import trio.testing

from meshnode import wire
from meshnode.agents.config import AgentsConfig
from meshnode.agents.definition import Application, definition_of
from meshnode.agents.ledger import Ledger
from meshnode.agents.messages import Answer, Call, OpenSession, Status
from meshnode.agents.service import Agents, TurnInfo
from meshnode.identity import Epoch, NodeId, PartitionId
from tests.agents.fake_host import FakeHost
from tests.agents.samples import Counter, FragileAgent, Gates, Tagged

PARTITION = PartitionId(0)
GUARD_S = 1e6
"""Virtual: no test waits that long for anything that happens."""


async def settle() -> None:
    """Let everybody do what they can do now."""
    await trio.testing.wait_all_tasks_blocked()


class Log:
    """What `Partitions` is to the agents: `meshnode.agents.service.Primaries`, for one partition."""

    def __init__(self) -> None:
        self.agents: Agents | None = None
        self.machine = Ledger()
        self.records: list[bytes] = []
        self.committed = 0
        self.epoch = Epoch(0)
        self.has_lease = True
        self.room = 10**9
        self.reads: list[tuple[int, int]] = []

    # ---- what the agents use

    def holds_lease(self, partition: PartitionId) -> bool:
        assert partition == PARTITION
        return self.has_lease

    def has_room(self, partition: PartitionId) -> bool:
        return len(self.records) - self.committed < self.room

    def propose(self, partition: PartitionId, payload: bytes) -> int:
        assert self.epoch, "nobody proposes but the primary"
        self.records.append(payload)
        return len(self.records)

    def read(self, partition: PartitionId, token: int) -> None:
        self.reads.append((len(self.records), token))

    # ---- what the test does

    def serve(self) -> None:
        """Become the primary of the next epoch."""
        assert self.agents is not None
        self.epoch = Epoch(self.epoch + 1)
        self.agents.serving(PARTITION, self.epoch, self.machine)

    def commit(self, through: int | None = None) -> None:
        """A majority has the records."""
        assert self.agents is not None
        through = len(self.records) if through is None else through
        for sequence in range(self.committed + 1, through + 1):
            self.machine.apply(sequence, self.records[sequence - 1])
        self.committed = through
        self.agents.committed(PARTITION, through)

    def confirm(self) -> None:
        """A majority says that this is the primary: reads of what is committed may be answered."""
        assert self.agents is not None
        ready = [(position, token) for position, token in self.reads if position <= self.committed]
        self.reads = [read for read in self.reads if read not in ready]
        for _position, token in ready:
            self.agents.read_ready(PARTITION, token)

    def depose(self, *, keep: bool = False) -> None:
        """Another node is the primary; what was not committed is lost, or adopted by it and committed (``keep``)."""
        assert self.agents is not None
        epoch, self.epoch = self.epoch, Epoch(0)
        self.agents.deposed(PARTITION, epoch)
        self.epoch = epoch
        if keep:
            for sequence in range(self.committed + 1, len(self.records) + 1):
                self.machine.apply(sequence, self.records[sequence - 1])
            self.committed = len(self.records)
        else:
            del self.records[self.committed :]
        self.reads.clear()

    def decoded(self) -> list[Any]:
        """All records."""
        return [wire.decode(record) for record in self.records]


@dataclass(eq=False)
class Asked:
    """One question, and its answer once there is one."""

    answer: Answer | None = None
    event: trio.Event = field(default_factory=trio.Event)

    def respond(self, answer: Answer) -> None:
        assert self.answer is None, "a question has one answer"
        self.answer = answer
        self.event.set()

    @property
    def status(self) -> Status | None:
        return None if self.answer is None else self.answer.status

    @property
    def session(self) -> int:
        assert self.answer is not None
        return self.answer.session

    @property
    def code(self) -> str:
        assert self.answer is not None
        return self.answer.code

    @property
    def text(self) -> str:
        assert self.answer is not None
        return self.answer.payload.decode()

    @property
    def result(self) -> Any:
        assert self.answer is not None
        assert self.answer.status is Status.DONE, self.answer
        return wire.loads(self.answer.payload)


class World:
    """The agents of one partition."""

    def __init__(self, config: AgentsConfig, application: Application, host: FakeHost) -> None:
        self.host = host
        self.log = Log()
        self.gates = Gates()
        self.turns: list[TurnInfo] = []
        self.application = application
        self.agents = Agents(
            host,
            config,
            application,
            partitions_total=lambda: 1,
            primary_of=lambda _partition: NodeId(7),
            surroundings=self._surround,
        )
        self.agents.attach(self.log)
        self.log.agents = self.agents
        self._requests = 1000  # above those that tests choose
        self._numbers = 0
        self.session = 0

    def _surround(self, turn: TurnInfo) -> Gates:
        self.turns.append(turn)
        return self.gates

    def open(self) -> Asked:
        """Ask for a session."""
        asked = Asked()
        self._numbers += 1
        self.agents.open_session(OpenSession(self._numbers, PARTITION), asked.respond)
        return asked

    def call(
        self,
        method: str,
        *positional: Any,
        key: str = "a",
        agent_type: str = "tally",
        request: int = 0,
        lowest: int = 1,
        timeout_s: float = 30.0,
        **fields: Any,
    ) -> Asked:
        """Call in the world's session, under a fresh request number unless one is given."""
        if not request:
            self._requests += 1
            request = self._requests
        session = 0 if fields.get("request_id") else self.session
        values = {"arguments": wire.dumps([list(positional), {}]), "session": session, "request": request, **fields}
        self._numbers += 1
        call = Call(self._numbers, PARTITION, agent_type, key, method, timeout_s=timeout_s, lowest=lowest, **values)
        return self.ask(call)

    def ask(self, call: Call) -> Asked:
        asked = Asked()
        self.agents.call(call, asked.respond)
        return asked

    async def done(self, method: str, *positional: Any, **fields: Any) -> Any:
        """Call, commit, confirm: the result."""
        asked = self.call(method, *positional, **fields)
        await settle()
        self.log.commit()
        self.log.confirm()
        return asked.result


def application() -> Application:
    return Application(definition_of(cls) for cls in (Counter, Tagged, FragileAgent))


@contextlib.asynccontextmanager
async def serving(
    config: AgentsConfig | None = None, *, offers: Application | None = None, host: FakeHost | None = None
) -> AsyncIterator[World]:
    """A world that serves its partition, with an open session."""
    world = World(config or AgentsConfig(), offers or application(), host or FakeHost())
    with trio.fail_after(GUARD_S):
        async with trio.open_nursery() as nursery:
            await nursery.start(world.agents.run)
            world.log.serve()
            opened = world.open()
            world.log.commit()
            world.session = opened.session
            yield world
            nursery.cancel_scope.cancel()
