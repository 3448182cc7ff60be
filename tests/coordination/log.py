"""A log of commands and the state that applies it, with the shorthand of tests."""

from meshnode import wire
from meshnode.coordination.commands import (
    Acquire,
    BeginSession,
    Claimed,
    Command,
    Compare,
    Done,
    Opened,
    Refused,
    Release,
    Renew,
    Renewed,
    Reply,
    RequestId,
    Step,
    Tick,
    Transact,
    Transacted,
)
from meshnode.coordination.state import Coordination
from meshnode.identity import Boot, NodeId

TERM = 7


class Log:
    """Each command crosses as bytes, as in the Raft log; its stamp is its place in it.

    Attributes:
        changes: how often the state said that it changed.
    """

    def __init__(self) -> None:
        self.changes = 0
        self.state = Coordination(self._changed)
        self.stamp = 0
        self._numbers: dict[int, int] = {}
        self.append(Tick(TERM, 0))

    def _changed(self) -> None:
        self.changes += 1

    def append(self, command: Command) -> Reply:
        self.stamp += 1
        return self.state.apply(self.stamp, wire.decode(wire.encode(command)))

    def open(self, name: str = "n", node: int = 0, boot: int = 1) -> int:
        reply = self.append(BeginSession(name, NodeId(node), Boot(boot)))
        assert isinstance(reply, Opened)
        return reply.session

    def request(self, session: int, *, number: int = 0, answered: int = 0) -> RequestId:
        """The next request, when all before it are answered."""
        number = number or self._numbers.get(session, 0) + 1
        self._numbers[session] = max(number, self._numbers.get(session, 0))
        return RequestId(session, number, answered or number)

    def acquire(self, session: int, *names: str, ttl_ms: int = 30_000) -> int:
        """The number of the claim, which can be made."""
        request = self.request(session)
        reply = self.append(Acquire(request, names, ttl_ms))
        assert isinstance(reply, Claimed), reply
        assert reply.token == self.token(session, request.number)
        return request.number

    def release(self, session: int, claim: int) -> None:
        assert self.append(Release(self.request(session), claim)) == Done()

    def token(self, session: int, claim: int) -> int | None:
        """Of a claim: 0 while it waits, None if it is not there."""
        found = self.state.queues.get((session, claim))
        return None if found is None else found.token

    def renew(self, session: int, *claims: int) -> tuple[int, ...]:
        reply = self.append(Renew(session, claims))
        assert isinstance(reply, Renewed), reply
        return reply.claims

    def tick(self, elapsed_ms: int, *, term: int = TERM) -> None:
        """Let so much time pass, in ticks of at most a second."""
        while elapsed_ms > 0:
            assert self.append(Tick(term, min(elapsed_ms, 1000))) == Done()
            elapsed_ms -= 1000

    def transact(
        self, session: int, *then: Step, compares: tuple[Compare, ...] = (), otherwise: tuple[Step, ...] = ()
    ) -> Transacted:
        reply = self.append(Transact(self.request(session), compares, then, otherwise))
        assert isinstance(reply, Transacted), reply
        return reply

    def refused(self, command: Command) -> str:
        """The code with which the command is refused, having changed nothing."""
        before, keys = self.state.version, self.state.store.freeze()
        reply = self.append(command)
        assert isinstance(reply, Refused), reply
        assert reply.message
        assert (self.state.version, self.state.store.freeze()) == (before, keys)
        return reply.code
