"""Nothing behind the seam reaches outside but through its `Host`."""

from pathlib import Path

import pytest

from tests.architecture.allowlist import ALLOWED, EXCEPTIONS, OUTSIDE, REFUSED, is_allowed
from tests.architecture.inspection import inspect_rooms, inspect_source

REPOSITORY = Path(__file__).parents[2]

TIME = "take it from Host: now"
FILES = "take it from Host: disk"
NETWORK = "take it from Host: datagrams"
CHANCE = "take it from Host: rng"
WORK = "take it from Host: run_blocking"
UNKNOWN = "if it touches the outside, take it from Host"

BAD = [
    ("import time", TIME),
    ("import time as t", TIME),
    ("from time import monotonic", TIME),
    ("import datetime", TIME),
    ("from datetime import datetime as d", TIME),
    ("import os", FILES),
    ("import os.path", FILES),
    ("from os import path", FILES),
    ("import posixpath\nposixpath.exists('x')", FILES),
    ("from posixpath import exists", FILES),
    ("import shutil, tempfile", FILES),
    ("from pathlib import Path", FILES),
    ("open('x')", FILES),
    ("read = open", FILES),
    ("import socket", NETWORK),
    ("from ssl import create_default_context", NETWORK),
    ("import select", NETWORK),
    ("from trio_websocket import open_websocket", NETWORK),
    ("import random\nrandom.random()", CHANCE),
    ("from random import choice", CHANCE),
    ("import random\nrandom.Random()", CHANCE),
    ("from random import Random as R\nR()", CHANCE),
    ("import secrets", CHANCE),
    ("import uuid", CHANCE),
    ("import numpy as np\nnp.random.default_rng()", CHANCE),
    ("from numpy.random import default_rng", CHANCE),
    ("import threading", WORK),
    ("import subprocess", WORK),
    ("import signal", WORK),
    ("import asyncio", WORK),
    ("from concurrent.futures import ThreadPoolExecutor", WORK),
    ("import trio\nasync def f(): await trio.sleep(1)", TIME),
    ("import trio as t\nasync def f(): await t.sleep(1)", TIME),
    ("from trio import sleep_until", TIME),
    ("import trio\nwith trio.move_on_after(1): pass", TIME),
    ("import trio\nwith trio.fail_at(1): pass", TIME),
    ("import trio\ntrio.current_time()", TIME),
    ("import trio\ntrio.CancelScope(deadline=1)", TIME),
    ("import trio\ntrio.CancelScope(relative_deadline=1)", TIME),
    ("import trio\ntrio.CancelScope(**options)", TIME),
    ("from trio import CancelScope as C\nC(shield=True, deadline=1)", TIME),
    ("scope.deadline = 5", TIME),
    ("self.scope.deadline += 5", TIME),
    ("import trio\ntrio.open_tcp_stream('x', 1)", NETWORK),
    ("import trio\ntrio.serve_tcp(f, 1)", NETWORK),
    ("import trio\ntrio.socket.socket()", NETWORK),
    ("from trio import socket", NETWORK),
    ("import trio\ntrio.to_thread.run_sync(f)", WORK),
    ("import trio.to_thread", WORK),
    ("import trio\ntrio.from_thread.run(f)", WORK),
    ("import trio\ntrio.run(f)", WORK),
    ("import trio\ntrio.run_process(['x'])", WORK),
    ("import trio\ntrio.open_signal_receiver(2)", WORK),
    ("import trio\ntrio.Path('x')", FILES),
    ("import trio\ntrio.open_file('x')", FILES),
    ("import trio\ntrio.lowlevel.current_clock()", UNKNOWN),
    ("import trio\nmodule = trio", "name what is used of it"),
    ("import trio\ngetattr(trio, 'sleep')", "name what is used of it"),
    ("import trio\ntrio.Event = None", "write the code out"),
    ("import numpy as np\nnp.load('x')", UNKNOWN),
    ("import inspect\ninspect.getsource(f)", UNKNOWN),
    ("import requests", UNKNOWN),
    ("from simulations.world import World", UNKNOWN),
    ("from importlib import import_module", "write the code out"),
    ("__import__('time')", "write the code out"),
    ("eval('1')", "write the code out"),
    ("print('x')", UNKNOWN),
    ("from . import sibling", "name the module in full"),
    ("from .sibling import thing", "name the module in full"),
    ("from meshnode.host import RealHost", "be given a Host"),
    ("import meshnode.real_disk", "be given a Host"),
    ("import meshnode.host\nmeshnode.host.RealHost()", "be given a Host"),
    ("def f():\n    import time", TIME),
    ("if TYPE_CHECKING:\n    import time", TIME),
]

GOOD = [
    "import trio\nwith trio.CancelScope(shield=True) as scope: scope.cancel()",
    "import trio\nasync def f(): await trio.lowlevel.checkpoint()",
    "import trio\nasync def f(nursery: trio.Nursery) -> None: await trio.sleep_forever()",
    "import random\ndef f(rng: random.Random) -> None: rng.choice([1])\nrandom.Random(5)",
    "from random import Random\nRandom(host.rng.random())",
    "import posixpath\nposixpath.join('a', 'b')",
    "import numpy as np\nimport numpy.typing as npt\nx: npt.ArrayLike = np.zeros(3)",
    "disk.open('x', create=True)",
    "self.deadline = 5\nproposal.deadline",
    "import consensus.raft\nfrom meshnode import wire\nfrom meshnode.host import Host, Mailbox",
    "def f(time: float, socket: object) -> None: time, socket.os",
    "from collections.abc import Mapping",
]


def test_nothing_behind_the_seam_reaches_outside_but_through_its_host() -> None:
    findings = [str(finding) for inspection in inspect_rooms(REPOSITORY) for finding in inspection.findings]
    assert not findings, "\n" + "\n".join(findings)


def test_no_exception_outlives_its_use() -> None:
    used = {pair for inspection in inspect_rooms(REPOSITORY) for pair in inspection.excepted}
    assert sorted(EXCEPTIONS.keys() - used) == []
    assert [path for path in OUTSIDE if not (REPOSITORY / path).exists()] == []


def test_what_is_refused_is_an_exception_from_something_allowed() -> None:
    for name in REFUSED:
        assert is_allowed(name.rpartition(".")[0]), f"{name} needs no mention: nothing it belongs to is allowed"
    assert not ALLOWED & REFUSED


@pytest.mark.parametrize(("source", "instead"), BAD, ids=[source for source, _ in BAD])
def test_code_that_reaches_outside_is_found_with_its_place_and_the_way_out(source: str, instead: str) -> None:
    findings = inspect_source(source, "meshnode/room/core.py").findings
    assert findings
    last = source.count("\n") + 1
    assert any(finding.line == last and instead in str(finding) for finding in findings), findings
    assert str(findings[0]).startswith("meshnode/room/core.py:")


@pytest.mark.parametrize("source", GOOD)
def test_code_that_keeps_to_its_room_is_left_alone(source: str) -> None:
    assert inspect_source(source, "meshnode/room/core.py").findings == []


def test_an_exception_is_for_its_own_file() -> None:
    source = "import importlib\nimportlib.import_module(name)"
    assert inspect_source(source, "meshnode/node.py").findings == []
    assert [finding.line for finding in inspect_source(source, "meshnode/wire.py").findings] == [2]


def test_the_files_behind_the_seam_are_all_looked_at() -> None:
    looked_at = {inspection.path for inspection in inspect_rooms(REPOSITORY)}
    assert {"meshnode/node.py", "meshnode/membership/udp.py", "consensus/driver.py"} <= looked_at
    assert not looked_at & {"meshnode/host.py", "meshnode/real_disk.py"}
    assert not [path for path in looked_at if path.startswith(("meshnode/cli/", "meshnode/demo/"))]
