"""What the core wants done or known, and what it counts.

Nobody changes an effect; see `messages` for why the one that nearly all are is not frozen.
"""

from dataclasses import dataclass
from typing import TypeAlias

from meshnode.identity import Address
from meshnode.membership.messages import Member, Message, State


@dataclass(slots=True, unsafe_hash=True)
class Send:
    """Send one datagram, once."""

    to: Address
    message: Message


@dataclass(frozen=True, slots=True)
class Changed:
    """A member is believed to be otherwise than before: in its state, boot, address, weight, zone or name.

    Attributes:
        member: as it is believed now.
        previous_state: None for a member that was not known before, which is never reported dead.
    """

    member: Member
    previous_state: State | None


@dataclass(frozen=True, slots=True)
class SeedsSilent:
    """This node knows nobody, and no seed has answered so many attempts. It keeps trying."""

    attempts: int


Effect: TypeAlias = Send | Changed | SeedsSilent


@dataclass(slots=True)
class Counters:
    """How often things happened since the start.

    Attributes:
        probes: probes begun.
        probes_failed: probes that neither the target nor a relay answered in time.
        suspicions: times that a member became a suspect, by own probe or by rumour.
        deaths: times that a member was declared or heard dead.
        refutations: times that this node raised its incarnation against a rumour.
        pauses: times that the core was woken so late that the process must have been stopped.
        conflicts: records of one node at one incarnation with two addresses: two processes share an identity.
        syncs: comparisons of whole lists that this node began.
        strays: answers to no question: late, repeated or forged.
        misdirected: pings meant for another node, usually one that had this address before.
        refused: what was dropped because a table was full, or a rumour could not be refuted.
    """

    probes: int = 0
    probes_failed: int = 0
    suspicions: int = 0
    deaths: int = 0
    refutations: int = 0
    pauses: int = 0
    conflicts: int = 0
    syncs: int = 0
    strays: int = 0
    misdirected: int = 0
    refused: int = 0
