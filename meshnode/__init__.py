"""An embedded peer-to-peer mesh: nodes that find each other, agree, and keep stateful agents alive among them.

    @agent("counter", state=Tally)
    class Counter(Agent[Tally]):
        @handler
        async def add(self, n: int) -> int:
            self.state.total += n
            return self.state.total

    async with Node(config) as node:
        total = await node.ref(Counter, "42").add(3)

What is exported here is the public interface; the rooms below are not.
"""

from kernels import Layer, Mlp
from meshnode.agents.definition import Agent, Application, agent, handler
from meshnode.certificates import load_tls
from meshnode.client import Client
from meshnode.config import NodeConfig
from meshnode.coordination.commands import Compare, Entry, Step
from meshnode.coordination.configuration import Configuration, Listing
from meshnode.coordination.election import Election, Leader
from meshnode.coordination.lock import Lock
from meshnode.errors import (
    AgentError,
    CallerError,
    Compacted,
    ConfigFull,
    InvalidArgument,
    LockLost,
    LockTimeout,
    MeshError,
    OperatorError,
    OutcomeUnknown,
    Overloaded,
    TurnTimeout,
    Unavailable,
    UnknownAgentType,
    UnknownMethod,
)
from meshnode.identity import Address, parse_address
from meshnode.links import Tls
from meshnode.node import Node

__all__ = [
    "Address",
    "Agent",
    "AgentError",
    "Application",
    "CallerError",
    "Client",
    "Compacted",
    "Compare",
    "ConfigFull",
    "Configuration",
    "Election",
    "Entry",
    "InvalidArgument",
    "Layer",
    "Leader",
    "Listing",
    "Lock",
    "LockLost",
    "LockTimeout",
    "MeshError",
    "Mlp",
    "Node",
    "NodeConfig",
    "OperatorError",
    "OutcomeUnknown",
    "Overloaded",
    "Step",
    "Tls",
    "TurnTimeout",
    "Unavailable",
    "UnknownAgentType",
    "UnknownMethod",
    "agent",
    "handler",
    "load_tls",
    "parse_address",
]
