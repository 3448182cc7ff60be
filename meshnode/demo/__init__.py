"""``meshnode demo``: five nodes, five hundred durable agents, two killed nodes, and a count in the end.

Real processes on loopback, real sockets and files, and the OpenCL device of this machine where there is one. It needs
the extra `demo`.
"""
