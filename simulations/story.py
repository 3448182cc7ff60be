"""What a person is told of a violation: what did not hold, how each node was, the last faults, and what led to it."""

import dataclasses
import math
import re
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from simulations.checkers.violation import Violation
from simulations.recording import UNTOLD, Step

STEPS_KEPT = 200_000
"""Of a run, before its violation: more than a minute of five busy nodes."""

FAULTS_SHOWN = 12
CAUSES_SHOWN = 40
"""A screen in all."""

HOPS_MAX = 2
"""A violation is of some nodes; what they were told counts, and what those who told them had been told before."""


SUBJECTS = {
    "partition": (r"\bpartition (\d+)", r"\bpartition=(\d+)"),
    "key": (r"\bkey '([^']*)'", r"\bkey='([^']*)'"),
}
"""What a violation can be about: how it says so, and how a message does."""


class Witness:
    """Keeps the last steps of a run that is being recorded."""

    def __init__(self) -> None:
        self.steps: deque[Step] = deque(maxlen=STEPS_KEPT)

    def __call__(self, step: Step) -> None:
        self.steps.append(step)


def story(violation: Violation, *, nodes: Sequence[str], faults: Any, begun_s: float, steps: Iterable[Step]) -> str:
    """All of it, for people.

    Args:
        nodes: a line each.
        faults: of the plan, whose time 0 was at ``begun_s``.
        steps: what happened, in order.
    """
    places = [f"n{number}" for number in violation.nodes]
    past = [step for step in steps if step.time_s <= violation.virtual_s]
    led = f"what led {', '.join(places)} there" if places else "what happened before it"
    sections = {
        "nodes:": nodes,
        "the last faults before it:": last_faults(faults, begun_s, violation.virtual_s),
        f"{led}, the last of each kind:": causes(past, places, is_told=_subject_of(violation)),
    }
    lines = [str(violation)]
    for title, section in sections.items():
        lines += [title, *(f"  {line}" for line in section)]
    return "\n".join(lines)


def _subject_of(violation: Violation) -> Callable[[Step], bool]:
    """Whether a step has to do with the partition or the key that the violation names; all have, if it names none."""
    named = {name: set(re.findall(said, violation.message)) for name, (said, _) in SUBJECTS.items()}

    def is_about(step: Step) -> bool:
        subjects = {name: set(re.findall(written, step.text)) for name, (_, written) in SUBJECTS.items()}
        is_of_another = any(named[name] and subjects[name].isdisjoint(named[name]) for name in named if subjects[name])
        return step.is_note or (any(subjects.values()) and not is_of_another)

    return is_about if any(named.values()) else lambda _step: True


def last_faults(faults: Any, begun_s: float, until_s: float) -> list[str]:
    """The faults that had begun by then, the newest last, and whether they were over."""
    found: list[tuple[float, str]] = []
    for item in dataclasses.fields(faults):
        values = getattr(faults, item.name)
        for fault in values if isinstance(values, tuple) else ():
            if not dataclasses.is_dataclass(fault):
                continue
            from_s = begun_s + getattr(fault, "at_s", 0.0)
            to_s = from_s + getattr(fault, "for_s", 0.0 if hasattr(fault, "at_s") else math.inf)
            if from_s <= until_s:
                until = f"until {to_s:.3f}" if to_s <= until_s else "still on"
                found.append((from_s, f"{from_s:12.6f}  {'' if to_s == from_s else until + ': '}{fault}"))
    quality = getattr(faults, "quality", None)
    if quality is not None and quality != type(quality)() and begun_s <= until_s:
        found.append((begun_s, f"{begun_s:12.6f}  all links: {quality}"))
    found.sort()
    more = len(found) - FAULTS_SHOWN
    return [f"({more} before these)"] * (more > 0) + [line for _, line in found[-FAULTS_SHOWN:]] or ["none"]


@dataclass(slots=True)
class _Cause:
    last: Step
    count: int
    first_s: float


def causes(
    steps: Sequence[Step], places: Sequence[str], *, is_told: Callable[[Step], bool] = lambda _step: True
) -> list[str]:
    """What happened at these places, and what had happened to those from whom they heard before they heard of it:
    walked back from the end, so that nothing is shown that cannot have led there.

    Steps that differ in nothing but their time and content are one line: the last of them, and how many there were.

    Args:
        steps: in their order.
        places: where the end is; everywhere if there are none.
        is_told: which steps are shown. The others lead somewhere all the same.
    """
    hops = dict.fromkeys(places or {step.place for step in steps}, 0)
    found: dict[tuple[str, str, str], _Cause] = {}
    for step in reversed(steps):
        if step.place not in hops and step.place:
            continue
        if step.is_note and (step.source or step.what.startswith(UNTOLD)):
            continue  # the bytes of what is told as messages too
        if step.source and hops[step.place] < HOPS_MAX:
            hops.setdefault(step.source, hops[step.place] + 1)
        if not is_told(step):
            continue
        key = (step.place, step.source, step.what if step.place else step.text)
        cause = found.get(key)
        if cause is not None:
            cause.count += 1
            cause.first_s = step.time_s
        elif len(found) < CAUSES_SHOWN:
            found[key] = _Cause(step, 1, step.time_s)
        else:
            break
    return [
        f"{cause.last}" + (f"  (and {cause.count - 1} since {cause.first_s:.3f})" if cause.count > 1 else "")
        for cause in reversed(found.values())
    ]
