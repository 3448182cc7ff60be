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
