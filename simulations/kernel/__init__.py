"""Trio with time, order and death in our hands.

1. `Events` is one heap of what is going to happen, in virtual seconds. Nothing else moves time.
2. `simulate` runs an async function on trio in virtual time: when no task can run, the next event happens or the next
   deadline expires, whichever is earlier. A computation takes no time unless a process is made slow.
3. The same seed gives the same run, step by step: the order of tasks is drawn from the seed, and addresses of objects
   decide no longer what trio does first, nor when garbage is collected. A version of trio for which this was not
   verified is refused.
4. A `Process` is a tree of tasks, in one loop or several, that can be killed between two of its steps as by SIGKILL (no
   `finally` runs), paused as by SIGSTOP, or slowed down.
5. What reaches past the simulated world while it runs, such as a real clock, a file or a thread, ends the run.
"""

from simulations.kernel.escapes import Escaped
from simulations.kernel.events import Events, Handle
from simulations.kernel.process import Killed, Loop, Process
from simulations.kernel.run import Stalled, simulate

__all__ = ["Escaped", "Events", "Handle", "Killed", "Loop", "Process", "Stalled", "simulate"]
