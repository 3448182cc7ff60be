"""The replicated configuration as programs use it."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from meshnode.coordination.commands import Compare, Entry, RequestId, Step, Transact, Transacted
from meshnode.coordination.questions import AwaitChanges, Changes, Entries, Question, ReadKey, ReadKeys
from meshnode.coordination.replica import Replica
from meshnode.coordination.session import PAUSE_S, ProcessSession
from meshnode.coordination.store import Revision
from meshnode.errors import Compacted, InvalidArgument, Unavailable
from meshnode.host import Host

TIMEOUT_S = 10.0
"""Several elections."""


@dataclass(frozen=True, slots=True)
class Listing:
    """Keys as they were together at one moment.

    Attributes:
        revision: of the last change of any key; watch after it, and nothing is missed.
        entries: in the order of the keys.
    """

    revision: int
    entries: tuple[Entry, ...]


class Configuration:
    """A few small settings that all nodes see alike: keys with values of up to 64 KiB, 4 MiB in all.

    Reads are linearizable, unless they are asked to be local: those read what this node has applied, which may be a
    moment old, and need no other node. Writes take effect at most once, also where they were tried more than once.

    Every method raises:
        InvalidArgument: a key, value or TTL is out of bounds.
        Unavailable: the Raft group did not answer within ``timeout`` seconds; nothing was changed.
    and those that write:
        OutcomeUnknown: so, but the change may have been made, or be made yet.
        ConfigFull: there is no room.
    """

    def __init__(self, host: Host, replica: Replica, session: ProcessSession) -> None:
        self._host = host
        self._replica = replica
        self._session = session

    async def get(self, key: str, *, local: bool = False, timeout: float = TIMEOUT_S) -> Entry | None:
        """A key, or None if it is not there."""
        found = await self._read(ReadKey(key), local=local, timeout_s=timeout)
        return found.entries[0] if found.entries else None

    async def list(self, prefix: str = "", *, local: bool = False, timeout: float = TIMEOUT_S) -> Listing:
        """All keys that begin with ``prefix``."""
        found = await self._read(ReadKeys(prefix), local=local, timeout_s=timeout)
        return Listing(found.revision, found.entries)

    async def put(self, key: str, value: bytes | str, *, ttl: float | None = None, timeout: float = TIMEOUT_S) -> int:
        """Set a key, for ``ttl`` seconds or for good; the revision of the change."""
        return (await self.transact((), [Step.put(key, value, ttl=ttl)], timeout=timeout)).revision

    async def delete(self, key: str, *, timeout: float = TIMEOUT_S) -> bool:
        """Delete a key; whether it was there."""
        return (await self.transact((), [Step.delete(key)], timeout=timeout)).found[0] is not None

    async def compare_and_set(
        self,
        key: str,
        expected: bytes | str | None,
        value: bytes | str,
        *,
        ttl: float | None = None,
        timeout: float = TIMEOUT_S,
    ) -> bool:
        """Set a key if it has the expected value, or is not there for None; whether it was set."""
        condition = Compare.is_absent(key) if expected is None else Compare.has_value(key, expected)
        return (await self.transact([condition], [Step.put(key, value, ttl=ttl)], timeout=timeout)).succeeded

    async def transact(
        self,
        compares: Sequence[Compare],
        then: Sequence[Step],
        otherwise: Sequence[Step] = (),
        *,
        timeout: float = TIMEOUT_S,
    ) -> Transacted:
        """If all of ``compares`` hold carry out ``then``, else ``otherwise``; nobody sees it half done."""

        def make(request: RequestId) -> Transact:
            return Transact(request, tuple(compares), tuple(then), tuple(otherwise))

        if problem := make(RequestId(0, 0, 0)).problem():
            raise InvalidArgument(problem)
        done = await self._session.request(make, within_s=timeout)
        assert isinstance(done, Transacted)
        return done

    def watch(self, prefix: str = "", *, after: int | None = None) -> "Watch":
        """The changes of keys that begin with ``prefix``: each once, in order, none left out.

            async for revision in node.configuration.watch("feature/"): …

        What one transaction changed comes together. To go on where another watch ended, give the revision of the last
        one that was seen.

        Args:
            after: the revision after which to begin, as of a `Listing`; None for what comes after now.

        Raises:
            InvalidArgument: the revision is below 0.
            Compacted: when iterated: changes after that revision are not kept any more. List the keys, and watch after
                that.
        """
        if after is not None and after < 0:
            raise InvalidArgument(f"revision {after} is below 0: watch after 0 to see all changes that are kept")
        return Watch(self, self._host, self._replica, prefix, after)

    async def revision(self, *, timeout: float = TIMEOUT_S) -> int:
        """Of the last change of any key."""
        return (await self._read(ReadKey("-"), local=False, timeout_s=timeout)).revision

    async def _read(self, question: Question, *, local: bool, timeout_s: float) -> Entries:
        until_s = self._host.now() + timeout_s
        problem = "no leader of the Raft group confirmed it, see meshnode raft status"
        while self._host.now() < until_s:
            with self._host.deadline(until_s):
                try:
                    answer = await self._replica.ask(question, fresh=not local)
                except Unavailable as error:
                    problem = str(error)
                    await self._host.sleep_until(self._host.now() + PAUSE_S)
                else:
                    assert isinstance(answer, Entries)
                    return answer
        raise Unavailable(f"not read within {timeout_s:g} s: {problem}")


class Watch:
    """An iterator over `Revision`; see `Configuration.watch`.

    Attributes:
        after: there are no changes for it up to and including this revision that it has not given; None before it
            has begun.
    """

    def __init__(
        self, configuration: Configuration, host: Host, replica: Replica, prefix: str, after: int | None
    ) -> None:
        self.after = after
        self._configuration = configuration
        self._host = host
        self._replica = replica
        self._prefix = prefix
        self._ready: deque[Revision] = deque()
        self._heard = after

    def __aiter__(self) -> "Watch":
        return self

    async def __anext__(self) -> Revision:
        while not self._ready:
            if self._heard is None:
                self._heard = self.after = await self._configuration.revision()
            changes = await self._hear(AwaitChanges(self._prefix, self._heard))
            self._ready.extend(changes.revisions)
            self._heard = changes.after
            if not self._ready:
                self.after = self._heard
        revision = self._ready.popleft()
        self.after = revision.revision if self._ready else self._heard
        return revision

    async def _hear(self, question: AwaitChanges) -> Changes:
        while True:
            try:
                changes = await self._replica.ask(question)
            except Unavailable:  # of a client, whose node has gone: another one goes on from there
                await self._host.sleep_until(self._host.now() + PAUSE_S)
                continue
            assert isinstance(changes, Changes)
            if changes.compacted:
                raise Compacted(
                    f"changes up to revision {changes.compacted} are not kept any more, and these are to begin after "
                    f"{question.after}: list the keys anew, and watch after the revision of that",
                    changes.compacted,
                )
            return changes
