"""A process with a replicated state that it does not always reach."""

import contextlib
from collections.abc import AsyncIterator, Callable

import trio

from meshnode import wire
from meshnode.coordination.commands import BeginSession, Command, Reply, Tick
from meshnode.coordination.coordinator import Coordinator
from meshnode.coordination.replica import LocalReplica
from meshnode.coordination.state import Coordination
from meshnode.errors import OutcomeUnknown, Unavailable
from tests.agents.fake_host import FakeHost


class Group:
    """Agrees on what processes propose, and counts the time.

    Attributes:
        commands: all that was applied.
        fate: what becomes of the next proposals: "applied" tells the outcome, "unknown" applies and does not tell,
            "lost" does neither, "refused" says that it was not taken, "silent" waits for ever.
    """

    def __init__(self) -> None:
        self.host = FakeHost()
        self.commands: list[Command] = []
        self.replicas: list[LocalReplica] = []
        self.state = Coordination(self._changed)
        self.fate: Callable[[Command], str] = lambda _command: "applied"

    def _changed(self) -> None:
        for replica in self.replicas:
            replica.changed()

    def apply(self, command: Command) -> Reply:
        self.commands.append(command)
        return self.state.apply(len(self.commands), wire.decode(wire.encode(command)))

    async def agree(self, command: Command, timeout_s: float) -> Reply:
        await trio.sleep(0.01)
        match self.fate(command):
            case "applied":
                return self.apply(command)
            case "unknown":
                self.apply(command)
                raise OutcomeUnknown("nobody knows")
            case "lost":
                raise OutcomeUnknown("nobody knows")
            case "refused":
                raise Unavailable("no leader")
            case _:
                with trio.move_on_after(timeout_s):
                    await trio.sleep_forever()
                raise OutcomeUnknown("no word")

    async def count(self) -> None:
        """Let the state's time pass."""
        while True:
            self.apply(Tick(1, 1000))
            await trio.sleep(1.0)

    @contextlib.asynccontextmanager
    async def process(self, name: str = "p") -> AsyncIterator[Coordinator]:
        """A process that coordinates."""
        replica = LocalReplica(self.state, agree=self.agree, catch_up=trio.lowlevel.checkpoint)
        self.replicas.append(replica)
        coordinator = Coordinator(self.host, replica, BeginSession(name))
        async with trio.open_nursery() as nursery:
            await nursery.start(coordinator.run)
            yield coordinator
            nursery.cancel_scope.cancel()
