"""Leader election alone, for whoever needs no log: what `RaftNode` offers of it, and others may."""

from typing import Protocol

import trio

from consensus.messages import Role


class LeaderElection(Protocol):
    """A member's part in the election of a leader."""

    @property
    def role(self) -> Role:
        """This member's part at this moment."""
        ...

    @property
    def leader(self) -> int:
        """The id of the leader as far as this member knows; 0 for nobody."""
        ...

    async def until_leader(self) -> None:
        """Wait until this member leads."""
        ...

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take part until cancelled, once."""
        ...
