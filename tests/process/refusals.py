"""Nodes that end by themselves, and what they say."""

from tests.process.processes import NodeProcess


async def said_at_end(node: NodeProcess, *, within_s: float = 20.0) -> str:
    """The one line for the operator with which a node ends with code 1: the last one, after its log, no traceback."""
    assert await node.ended(within_s=within_s) == 1, node.log()
    return said(node)


def said(node: NodeProcess) -> str:
    """The line for the operator that a node has ended with, without the program's name."""
    log = node.log()
    assert "Traceback" not in log
    lines = [line for line in log.splitlines() if not line.startswith("{")]
    assert len(lines) == 1, lines
    assert log.splitlines()[-1] == lines[0]
    name, colon, message = lines[0].partition(": ")
    assert (name, colon) == ("meshnode", ": ")
    return message
