"""All mutants, by room."""

from tests.mutants.catalogue.agents import AGENTS
from tests.mutants.catalogue.disk import DISK
from tests.mutants.catalogue.metadata import METADATA
from tests.mutants.catalogue.partitions import PARTITIONS
from tests.mutants.catalogue.placement import PLACEMENT
from tests.mutants.catalogue.raft import RAFT
from tests.mutants.catalogue.swim import SWIM
from tests.mutants.mutant import Mutant

MUTANTS: tuple[Mutant, ...] = (*RAFT, *SWIM, *PARTITIONS, *METADATA, *PLACEMENT, *DISK, *AGENTS)
