"""What a process can ask of a disk."""

import enum


class Operation(enum.StrEnum):
    """An operation that the disk's hook is told of."""

    OPEN = "open"
    EXISTS = "exists"
    READ = "read"
    APPEND = "append"
    RESERVE = "reserve"
    TRUNCATE = "truncate"
    SYNC = "sync"
    RENAME = "rename"
    REMOVE = "remove"
    LIST = "list"
    MAKE_DIRECTORY = "make_directory"
    SYNC_DIRECTORY = "sync_directory"


# For what happens with each record: Python 3.11 takes longer to find a member of an enum than for a call.
APPEND, SYNC = Operation.APPEND, Operation.SYNC
