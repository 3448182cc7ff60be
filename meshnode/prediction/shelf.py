"""Where published models are kept: a durable agent for each name, like any other agent."""

from dataclasses import dataclass

from kernels import Mlp, ModelError
from meshnode.agents.definition import Agent, agent, handler
from meshnode.errors import InvalidArgument


@dataclass
class PublishedModel:
    """The latest version of a model."""

    version: int = 0
    data: bytes = b""


@agent("meshnode.model", state=PublishedModel)
class ModelShelf(Agent[PublishedModel]):
    """One published model; the key is its name."""

    @handler
    async def publish(self, data: bytes) -> int:
        """Keep what `Mlp.to_bytes` made as the next version; its number. The same bytes again change nothing."""
        try:
            Mlp.from_bytes(data)
        except ModelError as error:
            raise InvalidArgument(f"model {self.key!r}: {error}") from error
        if data != self.state.data:
            self.state.version += 1
            self.state.data = data
        return self.state.version

    @handler(read_only=True)
    async def latest(self, known: int) -> PublishedModel | None:
        """The latest version; None where that is the ``known`` one (0: none is known)."""
        return None if self.state.version == known else self.state
