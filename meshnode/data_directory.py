"""Who a node is, kept in its data directory (rule 2 of partition replication)."""

import enum
from dataclasses import dataclass, replace

from consensus.disk import Disk
from consensus.errors import StorageError
from consensus.records import REMEDY, RecordScan, frame
from meshnode import wire
from meshnode.errors import DataDirectoryError
from meshnode.identity import STARTS_KEPT, Boot, MeshId, NodeId, Start, node_id_text
from meshnode.metadata.config import VOTERS_DEFAULT

PATH = "identity"

RAFT_PATH = "raft"


class Standing(enum.Enum):
    """How far a node has come."""

    BORN = 1
    """It has an id and belongs to no mesh."""
    FOUNDING = 2
    """It has drawn a mesh id, and may not have written the first log entry."""
    MEMBER = 3
    """It has adopted a mesh id, for good."""
    SUPERSEDED = 4
    """Another process has gone on from a copy of this data directory: what is here is out of date, for good."""


@dataclass(frozen=True, slots=True)
class Identity:
    """The content of the file.

    Attributes:
        generation: of the Raft group whose log this node has; see `meshnode.recovery`.
        nonces: of the last starts, that of this one last.
        opened: the generation whose log was opened last, and the journal with it; -1 for none. The node never starts
            without these again: for whom it voted and what it acknowledged would be forgotten.
        partitions, replication, voters: of the mesh that this node founded; without meaning on every other node.
    """

    node_id: NodeId
    boot: Boot
    standing: Standing
    mesh_id: MeshId
    partitions: int = 0
    replication: int = 0
    voters: int = VOTERS_DEFAULT
    generation: int = 0
    nonces: tuple[int, ...] = ()
    opened: int = -1

    @property
    def start(self) -> Start:
        """This life of the node."""
        return Start(self.boot, self.nonces[-1], self.nonces[:-1])

    @property
    def raft_directory(self) -> str:
        """Where the log of the Raft group is: each recovery of the group begins one anew."""
        return RAFT_PATH if not self.generation else f"{RAFT_PATH}.{self.generation}"

    @property
    def has_log(self) -> bool:
        """Whether the log of the Raft group was opened once."""
        return self.opened == self.generation

    @property
    def has_journal(self) -> bool:
        """Whether the journal was opened once."""
        return self.opened >= 0

    @property
    def owner(self) -> bytes:
        """Names this node's logs, so that those of another node or mesh are refused."""
        return self.mesh_id + self.node_id.to_bytes(8, "big")


def has_identity(disk: Disk) -> bool:
    """Whether the directory is a node's; if not, it has nothing of a node.

    Raises:
        DataDirectoryError: it has a node's data, and the file is missing.
    """
    if disk.exists(PATH):
        return True
    if disk.exists(RAFT_PATH) or disk.exists("journal"):
        raise DataDirectoryError(f"the data directory has a node's data but no {PATH}. {REMEDY}")
    return False


def load_identity(disk: Disk, fresh_id: NodeId, nonce: int) -> Identity:
    """The identity of this start: read, or drawn in an empty directory; ``boot`` is raised and on disk.

    Args:
        fresh_id: for the node, where the directory is empty.
        nonce: a random number for this start.

    Raises:
        DataDirectoryError: the file is damaged, or missing beside a node's data; or a mesh refused this directory once.
        OSError: the disk refuses.
    """
    if not has_identity(disk):
        identity = Identity(fresh_id, Boot(1), Standing.BORN, MeshId(b""), nonces=(nonce,))
    else:
        kept = read_identity(disk)
        if kept.standing is Standing.SUPERSEDED:
            raise DataDirectoryError(
                f"the data directory is an old copy: node {node_id_text(kept.node_id)} has gone on elsewhere. Start "
                "with an empty one"
            )
        identity = replace(kept, boot=Boot(kept.boot + 1), nonces=(*kept.nonces, nonce)[-STARTS_KEPT:])
    save_identity(disk, identity)
    return identity


def save_identity(disk: Disk, identity: Identity) -> None:
    """Replace the file; returns when the new one is durable."""
    temporary = f"{PATH}.new"
    if disk.exists(temporary):
        disk.remove(temporary)
    file = disk.open(temporary, create=True)
    try:
        file.append(frame(wire.pack(identity), offset=0, synced=0))
        file.sync()
    finally:
        file.close()
    disk.rename(temporary, PATH)
    disk.sync_directory("")


def read_identity(disk: Disk) -> Identity:
    """The identity of the last start.

    Raises:
        DataDirectoryError: the file is damaged.
        OSError: there is none, or the disk refuses.
    """
    file = disk.open(PATH, create=False)
    try:
        records = [payload for _offset, payload in RecordScan(file, PATH)]
        if len(records) != 1:
            raise DataDirectoryError(f"{PATH} is cut off at byte {file.size()}. {REMEDY}")
        return wire.unpack(Identity, records[0])
    except StorageError as error:
        raise DataDirectoryError(str(error)) from error
    except wire.WireError as error:
        raise DataDirectoryError(
            f"{PATH} is sound but unreadable: {error}. Was it written by a newer version?"
        ) from error
    finally:
        file.close()
