"""What people are told of a violation."""

import math
from collections.abc import Callable

import pytest

import consensus.log
import meshnode.partitions.primary
from simulations.campaign import run_and_explain, run_plan
from simulations.checkers.violation import Violation
from simulations.cores.faults import Crash, LinkQuality, Pause
from simulations.cores.swarm import ANY, DRAWS
from simulations.plan import Faults, Plan
from simulations.recording import Step, recording
from simulations.story import CAUSES_SHOWN, FAULTS_SHOWN, Witness, causes, last_faults, story


def message(time_s: float, source: str, place: str, what: str, text: str = "") -> Step:
    return Step(time_s, place, source, what, text, is_note=False)


def note(time_s: float, place: str, what: str, text: str = "") -> Step:
    return Step(time_s, place, "", what, text, is_note=True)


def test_only_what_can_have_led_there_is_told() -> None:
    steps = [
        message(1.0, "n3", "n2", "Vote", "of n3"),
        message(2.0, "n2", "n1", "Append", "one"),
        message(3.0, "n3", "n2", "Seal", "too late to have been told to n1"),
        message(4.0, "n4", "n5", "Append", "elsewhere"),
        note(5.0, "n1", "led term", "7"),
    ]
    told = "\n".join(causes(steps, ["n1"]))
    assert "n3 → n2   Vote of n3" in told
    assert "n2 → n1   Append one" in told
    assert "led term 7" in told
    assert "too late" not in told
    assert "elsewhere" not in told


def test_only_messages_of_the_partition_or_key_that_is_named_are_told() -> None:
    steps = [
        message(1.0, "n2", "n1", "Append", "(partition=3, epoch=1)"),
        message(1.1, "n2", "n1", "Seal", "(partition=31, epoch=1)"),
        message(1.2, "n2", "n1", "Ping", "(boot=1)"),
        message(1.3, "n2", "n1", "Call", "(partition=3, key='k1')"),
        message(1.4, "n2", "n1", "Move", "(partition=3, key='k2')"),
        note(1.5, "n1", "kill"),
    ]

    def words(said: str) -> set[str]:
        violation = Violation("some", virtual_s=2.0, message=said, nodes=[1])
        told = story(violation, nodes=[], faults=Faults(), begun_s=0.0, steps=steps)
        return {word for word in ("Append", "Seal", "Ping", "Call", "Move", "kill") if word in told}

    assert words("partition 3 on node 1: lost") == {"Append", "Call", "Move", "kill"}
    assert words("key 'k1': lost") == {"Append", "Seal", "Call", "kill"}
    assert words("lost") == {"Append", "Seal", "Ping", "Call", "Move", "kill"}


def test_what_is_not_told_leads_there_all_the_same() -> None:
    steps = [message(1.0, "n3", "n2", "Append"), message(2.0, "n2", "n1", "Ping")]
    (line,) = causes(steps, ["n1"], is_told=lambda step: step.what != "Ping")
    assert "n3 → n2   Append" in line


def test_what_repeats_itself_is_one_line() -> None:
    steps = [message(float(number), "n2", "n1", "Ping", f"number {number}") for number in range(9)]
    (line,) = causes(steps, ["n1"])
    assert "Ping number 8  (and 8 since 0.000)" in line


def test_what_is_told_has_a_bound() -> None:
    steps = [message(float(number), "n2", "n1", f"Kind{number}") for number in range(1000)]
    told = causes(steps, ["n1"])
    assert len(told) == CAUSES_SHOWN
    assert "Kind999" in told[-1]
    assert (
        len(last_faults(Faults(pauses=tuple(Pause(0, at_s, 1.0) for at_s in range(99))), 0.0, 200.0))
        == 1 + FAULTS_SHOWN
    )


def test_bytes_are_not_told_where_messages_are() -> None:
    bare = Step(1.0, "n1", "n2", "stream", "80 bytes", is_note=True)
    assert causes([bare, note(1.5, "n1", "woken"), message(2.0, "n2", "n1", "Append")], ["n1"]) == [
        f"{message(2.0, 'n2', 'n1', 'Append')}"
    ]


def test_faults_are_told_by_the_time_of_the_run_and_whether_they_were_over() -> None:
    faults = Faults(
        quality=LinkQuality(loss=0.5),
        crashes=(Crash(1, 2.0, 3.0), Crash(2, 50.0, 1.0)),
        pauses=(Pause(0, 4.0, 100.0),),
    )
    told = last_faults(faults, 10.0, 20.0)
    assert [line.split()[0] for line in told] == ["10.000000", "12.000000", "14.000000"]
    assert "loss=0.5" in told[0]
    assert "until 15.000: Crash(node=1" in told[1]
    assert "still on: Pause(node=0" in told[2]
    assert last_faults(faults, math.inf, 20.0) == ["none"]


def test_a_story_ends_where_the_violation_was_noticed() -> None:
    violation = Violation("linearizability", virtual_s=5.0, message="k1 lost an add")
    steps = [note(1.0, "n1", "started"), note(9.0, "n1", "ended")]
    told = story(violation, nodes=["n1: down"], faults=Faults(), begun_s=0.0, steps=steps)
    assert told.splitlines()[0] == "linearizability at 5.000000 s: k1 lost an add"
    assert "  n1: down" in told
    assert "started" in told
    assert "ended" not in told


def forget_logs(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(consensus.log.RaftLog, "is_up_to_date", lambda *_: True)


def commit_alone(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(meshnode.partitions.primary, "majority", lambda _members: 1)


@pytest.mark.parametrize(
    ("world", "mistake", "words"),
    [("raft", forget_logs, ("vote_response", "led term")), ("partitions", commit_alone, ("Append", "committed"))],
)
def test_a_core_that_is_wrong_is_told_with_its_messages(
    world: str,
    mistake: Callable[[pytest.MonkeyPatch], None],
    words: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mistake(monkeypatch)
    plans = (DRAWS[world](seed, ANY) for seed in range(30))
    plan = next(plan for plan in plans if not run_plan(plan).is_clean)
    result = run_and_explain(plan)
    told = result.story.splitlines()
    assert told[0].startswith(f"{result.invariant} at {result.violation_s:.6f} s: ")
    for title in ("nodes:", "the last faults before it:"):
        assert title in told
    assert any(line.startswith("  n1: ") for line in told)
    for word in words:
        assert word in result.story


def test_whole_nodes_are_told_with_their_messages() -> None:
    plan = Plan(
        seed=1,
        nodes=2,
        replication=2,
        duration_s=1.0,
        partitions=1,
        clients=1,
        faults=Faults(pauses=(Pause(1, 0.5, 0.2),)),
    )
    plain = run_plan(plan)
    witness = Witness()
    with recording(witness):
        recorded = run_plan(plan)
    assert recorded.digest == plain.digest
    kinds = {(step.source, step.place, step.what) for step in witness.steps}
    assert {("n0", "n1", "Append"), ("n0", "n1", "append"), ("c0", "n0", "Call"), ("n0", "n1", "datagram")} <= kinds
    assert run_plan(plan).digest == plain.digest
