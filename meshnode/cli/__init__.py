"""The ``meshnode`` command: run a node, ask any node, call agents.

Exit codes: 0 ok, 1 error, 2 wrong usage, 5 not found, 6 unavailable, 7 timeout, 130 interrupted. With ``--json`` the
result is one value on stdout; log lines and errors go to stderr.
"""

from meshnode.cli.main import main

__all__ = ["main"]
