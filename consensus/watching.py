"""Tasks that wait for a node to do something, or to lead."""

import trio

from consensus.messages import Role


class Watch:
    """Who watches one node."""

    def __init__(self) -> None:
        self._is_watched = False
        self._changed = trio.Event()
        self._leads = trio.Event()

    async def changed(self) -> None:
        """Wait until the node has done something, or has stopped."""
        self._is_watched = True
        await self._changed.wait()

    async def until_leader(self) -> None:
        """Wait until the node leads."""
        await self._leads.wait()

    def announce(self) -> None:
        """The node has done something."""
        if self._is_watched:
            self._is_watched = False
            self._changed.set()
            self._changed = trio.Event()

    def has_role(self, role: Role) -> None:
        """The node has that role now."""
        if role is Role.LEADER:
            self._leads.set()
        elif self._leads.is_set():
            self._leads = trio.Event()

    def stop(self) -> None:
        """The node has stopped: it does nothing, and leads nobody, any more."""
        self._changed.set()
        self.has_role(Role.FOLLOWER)
