"""All mutants, by room."""

from tests.mutants.catalogue.agents import AGENTS
from tests.mutants.catalogue.disk import DISK
from tests.mutants.catalogue.driver import DRIVER
from tests.mutants.catalogue.group import GROUP
from tests.mutants.catalogue.locks import LOCKS
from tests.mutants.catalogue.metadata import METADATA
from tests.mutants.catalogue.partitions import PARTITIONS
from tests.mutants.catalogue.placement import PLACEMENT
from tests.mutants.catalogue.raft import RAFT
from tests.mutants.catalogue.raft_reads import RAFT_READS
from tests.mutants.catalogue.raft_threads import RAFT_THREADS
from tests.mutants.catalogue.storage import STORAGE
from tests.mutants.catalogue.swim import SWIM
from tests.mutants.catalogue.variants import VARIANTS
from tests.mutants.catalogue.variants_of_partitions import VARIANTS_OF_PARTITIONS
from tests.mutants.catalogue.variants_on_disk import VARIANTS_ON_DISK
from tests.mutants.mutant import Mutant

MUTANTS: tuple[Mutant, ...] = (
    *RAFT, *RAFT_READS, *RAFT_THREADS, *SWIM, *PARTITIONS, *METADATA, *GROUP, *PLACEMENT, *DISK, *STORAGE, *DRIVER, *AGENTS, *LOCKS,
    *VARIANTS, *VARIANTS_OF_PARTITIONS, *VARIANTS_ON_DISK,
)  # fmt: skip
