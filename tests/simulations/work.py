"""What worker processes do in tests: they find it by its name."""

import os
import signal

from simulations.campaign import Result
from simulations.plan import AnyPlan, Plan

TO_INTERRUPT = "TO_INTERRUPT"
"""The variable of the environment with the id of the process that `interrupt` interrupts."""


def result_of(plan: AnyPlan, invariant: str = "", history: str = "") -> Result:
    """Of a run that never was."""
    return Result(
        plan=plan,
        invariant=invariant,
        violation_s=1.0,
        message=invariant and f"{invariant} at 1.0 s",
        virtual_s=2.0,
        events=3,
        operations=4,
        faults={"crash": 1},
        history=history,
    )


def double(plan: AnyPlan) -> Result:
    """Another seed."""
    return result_of(Plan(seed=2 * plan.seed))


def die_at_seed_1(plan: AnyPlan) -> Result:
    """The process is killed by somebody."""
    if plan.seed == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return result_of(plan)


def interrupt_at_seed_2(plan: AnyPlan) -> Result:
    """Somebody presses Ctrl-C."""
    if plan.seed == 2:
        os.kill(int(os.environ.get(TO_INTERRUPT, os.getpid())), signal.SIGINT)
        signal.pause()
    return result_of(plan)


def failing_until_interrupted(plan: AnyPlan) -> Result:
    """Every plan fails; somebody presses Ctrl-C when the first one with a single client is tried."""
    if isinstance(plan, Plan) and plan.clients == 1:
        os.kill(os.getpid(), signal.SIGINT)
        signal.pause()
    return result_of(plan, "linearizability")
