"""Who is here: SWIM membership and failure detection, as a core without I/O and its UDP driver.

`swim.Swim` is the core, `udp.Membership` the driver. The core believes what its peers tell it, in the order of
`roster.supersedes`, and doubts a death for a time first, so any two nodes that heard the same rumours believe the same
once that time is over. What it says of others is advice, not agreement. Whoever drives the core:

1. gives it one `random.Random` of its own and a `now` in seconds that never falls;
2. calls `receive` for each message that came in, in the order of arrival, bytes of other meshes kept out;
3. calls `wake` no earlier than `next_deadline` and as soon after it as possible: a core that is woken late assumes that
   its process was stopped, and gives the others time instead of declaring them dead;
4. performs the effects of each call: `Changed` in the order of the calls, datagrams in any order;
5. starts each life of a node with a higher boot number, so that it overrides whatever was said of the previous one.

Sources: Das, Gupta, Motivala, "SWIM: Scalable Weakly-consistent Infection-style Process Group Membership Protocol"
(2002), sections 4.1 to 4.3; Dadgar, Phillips, Currey, "Lifeguard" (2018), section IV.C, for telling a suspect of its
suspicion first.
"""
