"""Which disks may lose what they had acknowledged, so that another replica can always repair it."""


class FaultAtlas:
    """Shared by the disks of a mesh.

    At most ⌊(replicas − 1) / 2⌋ disks ever get a permission, and keep it for good. However the replicas of a partition
    lie, its sound disks are then still a majority, and so have one in common with each majority that acknowledged
    something.

    Args:
        copies: how many disks (nodes) the mesh has.
        replication: how many replicas a partition is to have; there are as many as nodes while those are fewer. Voters
            of the Raft group count as well, if they are fewer than that.

    Raises:
        ValueError: one of them is below 1.
    """

    def __init__(self, *, copies: int, replication: int) -> None:
        if copies < 1 or replication < 1:
            raise ValueError(f"{copies} copies at replication {replication}: both are at least 1")
        self.breakable_max = (min(copies, replication) - 1) // 2
        self._breakable: set[str] = set()

    @property
    def breakable(self) -> frozenset[str]:
        """The disks that got a permission: those that may have lost something."""
        return frozenset(self._breakable)

    def permits(self, disk: str) -> bool:
        """Whether a fault may destroy synced data of this disk. The first that ask are the ones that may."""
        if disk not in self._breakable and len(self._breakable) < self.breakable_max:
            self._breakable.add(disk)
        return disk in self._breakable
