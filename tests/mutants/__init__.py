"""Does the simulator find bugs? Mistakes made on purpose, one at a time, in a copy of the tree.

1. `mutant.Mutant` is one mistake: text that stands in a file exactly once, and what takes its place.
   `catalogue.MUTANTS` has them all.
2. `hunt.hunt` applies one to a copy of the packages and lets the simulator look for it in processes of their own: at
   level 1 in the worlds that the mutant names, and at level 2 with whole nodes. The first violation ends the hunt. It
   counts if the tree without the mutant is clean on that seed, and if it is the node that is wrong: an error of a kind
   that only a bad patch raises does not count.
3. ``python -m tests.mutants`` (``make mutants``) prints a scoreboard, and fails below the goal: nine of ten found
   within 1,000 seeds at level 1 or 200 at level 2, the easy ones within 10.

A mutant that survives says that a world, a workload or a checker is too weak: it is those that are changed then.
"""
