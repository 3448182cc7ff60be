"""Errors, by who must act.

`CallerError`: the program that called; nothing was changed. `Unavailable` and its kin: wait or retry; each says whether
anything may have changed. `OperatorError`: whoever runs the node; the message says the way out.
"""


class MeshError(Exception):
    """Whatever this package raises on purpose."""

    code = "error"
    """The name under which the error crosses the mesh; see `error_from_code`."""


class CallerError(MeshError):
    """The call itself is wrong: repeating it unchanged fails again. Nothing was changed."""

    code = "caller"


class UnknownAgentType(CallerError):
    """No node that owns the key has the agent type in its application. Nothing was changed."""

    code = "unknown_agent_type"


class UnknownMethod(CallerError):
    """The agent type has no handler of that name. Nothing was changed."""

    code = "unknown_method"


class InvalidArgument(CallerError):
    """An argument does not fit the handler's types, or is too large. Nothing was changed."""

    code = "invalid_argument"


class UnknownSession(CallerError):
    """The session expired, so what became of its requests is not known any more. Nothing was changed."""

    code = "unknown_session"


class NotFound(CallerError):
    """No such node, model or key."""

    code = "not_found"


class AgentError(MeshError):
    """The agent's handler raised. Its state is unchanged; the error is the recorded reply of the request.

    Attributes:
        error_type: the name of the exception's class in the agent.
    """

    code = "agent"

    def __init__(self, message: str, error_type: str = "Exception") -> None:
        super().__init__(message)
        self.error_type = error_type

    def __str__(self) -> str:
        return f"{self.error_type}: {self.args[0]}"


class TurnTimeout(MeshError):
    """The turn was stopped because its caller waits no longer. The agent's state is unchanged."""

    code = "timeout"


class Unavailable(MeshError):
    """Nobody could answer within the deadline. Nothing was changed; a retry is safe."""

    code = "unavailable"


class Overloaded(Unavailable):
    """A bounded queue is full. Nothing was changed; retry later."""

    code = "overloaded"


class OutcomeUnknown(MeshError):
    """The request may or may not take effect. A retry with the same request id is safe."""

    code = "outcome_unknown"


class LockTimeout(MeshError):
    """The lock was not got in time, because others hold it or wait for it. The claim is given up."""

    code = "lock_timeout"


class LockLost(MeshError):
    """The lock is not held any more, or may not be: it was not renewed within its TTL, or its node was thought to have
    started again. Whoever comes next may have it already."""

    code = "lock_lost"


class SessionOver(MeshError):
    """The session in which something was asked is over. Nothing was changed by this request."""

    code = "session_over"


class ConfigFull(CallerError):
    """There is no room in the replicated configuration. Nothing was changed."""

    code = "config_full"


class Compacted(MeshError):
    """Changes that were to be watched are not kept any more. List the keys anew, and watch from there.

    Attributes:
        revision: of the last change that is not kept: it can be watched from after this one.
    """

    code = "compacted"

    def __init__(self, message: str, revision: int = 0) -> None:
        super().__init__(message)
        self.revision = revision


class OperatorError(MeshError):
    """Something outside the program must be put right; the message says what."""

    code = "operator"


class AddressInUse(OperatorError):
    """Another process listens at the address that this node is to bind."""


class DataDirectoryError(OperatorError):
    """The data directory is locked, not writable, damaged, or of another mesh. It was not changed."""


class DamagedSnapshot(OperatorError):
    """The file of a snapshot is damaged, or none that this version can read. Nothing was changed."""

    code = "damaged_snapshot"


class OldCopy(DataDirectoryError):
    """The mesh has seen more of this node than its data directory has: it is marked, and never used again."""

    code = "old_copy"


class GroupRecovered(OperatorError):
    """The mesh's Raft group was recovered without what this node's log has. The log was set aside; start it again."""

    code = "group_recovered"


class StorageFailed(OperatorError):
    """The disk refused a write or a sync. The node has stopped acknowledging; what was acknowledged is safe."""

    code = "storage_failed"


class NameTaken(OperatorError):
    """Another live node of the mesh has this name."""

    code = "name_taken"


class OwnNode(OperatorError):
    """The other side has this node's own id: it is this node itself, or runs on a copy of its data directory."""

    code = "own_node"


class WrongMesh(OperatorError):
    """The other side, or the data directory, belongs to another mesh."""

    code = "wrong_mesh"


def _classes() -> dict[str, type[MeshError]]:
    found: dict[str, type[MeshError]] = {}
    pending: list[type[MeshError]] = [MeshError]
    while pending:
        cls = pending.pop()
        found.setdefault(cls.code, cls)
        pending.extend(cls.__subclasses__())
    return found


def error_from_code(code: str, message: str) -> MeshError:
    """The error that a peer reported; an unknown code of a newer version becomes a plain `MeshError`."""
    cls = _classes().get(code, MeshError)
    if cls is AgentError:
        error_type, _, text = message.partition(": ")
        return AgentError(text, error_type)
    return cls(message)
