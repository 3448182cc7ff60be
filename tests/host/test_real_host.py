"""The real host: the contract, and what only a machine can show."""

import os
import resource
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from meshnode.errors import DataDirectoryError, OperatorError
from meshnode.host import BLOCKING_THREADS_MAX, STREAM_SILENCE_S, Host, Mailbox, RealHost
from meshnode.identity import Address
from meshnode.real_disk import LOCK_NAME, RealDisk
from tests.host.contract import HostContract

ANYWHERE = Address("127.0.0.1", 0)

PATIENCE_S = 30.0
"""When a thread that waits for another one gives up: only a failing test waits as long."""


@pytest.fixture
def host() -> Host:
    return RealHost()


@pytest.fixture
def root(tmp_path: Path) -> str:
    return str(tmp_path / "not" / "there")


class TestRealHost(HostContract):
    """The contract on this machine."""


# ---- the network of this machine


def has_ipv6() -> bool:
    async def bind() -> None:
        with trio.socket.socket(trio.socket.AF_INET6, trio.socket.SOCK_DGRAM) as socket:
            await socket.bind(("::1", 0))

    try:
        trio.run(bind)
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")


@needs_ipv6
async def test_datagrams_and_streams_go_over_ipv6(host: Host) -> None:
    async with host.datagrams(Address("::1", 0)) as one, host.datagrams(Address("::1", 0)) as other:
        await one.send(b"ping", other.address)
        assert await other.receive() == (b"ping", one.address)
    listener, address = await host.listen(Address("::1", 0))
    async with listener, await host.dial(address) as stream, await listener.accept() as accepted:
        await stream.send_all(b"six")
        assert await accepted.receive_some(3) == b"six"


@needs_ipv6
async def test_an_ipv6_endpoint_leaves_the_port_of_ipv4_alone(host: Host) -> None:
    async with host.datagrams(Address("::", 0)) as six, host.datagrams(Address("0.0.0.0", six.address.port)) as four:
        assert four.address.port == six.address.port


@pytest.mark.parametrize(
    "to",
    [Address("255.255.255.255", 9), Address("::1", 9), Address("a\0b", 9), Address("x" * 70, 9)],
    ids=["broadcast", "other family", "NUL", "no name"],
)
async def test_a_datagram_that_this_machine_cannot_send_is_lost(host: Host, to: Address) -> None:
    async with host.datagrams(ANYWHERE) as endpoint:
        await endpoint.send(b"x", to)
        await endpoint.send(b"y", endpoint.address)
        assert await endpoint.receive() == (b"y", endpoint.address)


@pytest.mark.parametrize(
    "address", [Address("192.0.2.1", 0), Address("127.0.0.1", 65536), Address("x" * 70, 0)], ids=str
)
async def test_what_cannot_be_bound_is_told_to_the_operator(host: Host, address: Address) -> None:
    with pytest.raises(OperatorError, match="can't bind"):
        async with host.datagrams(address):
            pass
    with pytest.raises(OperatorError, match="can't bind"):
        await host.listen(address)


async def test_a_stream_whose_far_side_is_silent_is_given_up_by_the_kernel_on_both_sides(host: Host) -> None:
    listener, address = await host.listen(ANYWHERE)
    async with listener, await host.dial(address) as dialled, await listener.accept() as accepted:
        for stream in (dialled, accepted):
            assert isinstance(stream, trio.SocketStream)
            assert stream.getsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_KEEPALIVE)
            options = {
                name: stream.getsockopt(trio.socket.IPPROTO_TCP, getattr(trio.socket, name))
                for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")
                if hasattr(trio.socket, name)
            }
            if "TCP_USER_TIMEOUT" in options:
                assert options["TCP_USER_TIMEOUT"] == STREAM_SILENCE_S * 1000
            if "TCP_KEEPIDLE" in options:
                probed_s = options["TCP_KEEPIDLE"] + options["TCP_KEEPINTVL"] * options["TCP_KEEPCNT"]
                assert probed_s == STREAM_SILENCE_S


async def test_a_name_with_several_addresses_is_one_listener(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[trio.SocketListener] = []
    open_listeners = trio.open_tcp_listeners

    async def open_two(port: int, *, host: str, backlog: int) -> list[trio.SocketListener]:
        for _ in range(2):
            opened.extend(await open_listeners(port, host=host, backlog=backlog))
        return list(opened)

    monkeypatch.setattr(trio, "open_tcp_listeners", open_two)
    listener, address = await host.listen(Address("localhost", 0))
    async with listener, await host.dial(address):
        assert address.host == "localhost"
        assert listener is opened[0]
        assert [surplus.socket.fileno() for surplus in opened[1:]] == [-1] * (len(opened) - 1)


# ---- the clock of this machine


async def test_a_sleeper_that_is_woken_early_sleeps_on(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    sleep = trio.sleep
    slept: list[float] = []

    async def sleep_at_most_once_short(seconds: float) -> None:
        slept.append(seconds)
        await sleep(seconds if len(slept) > 1 else 0.0)

    monkeypatch.setattr(trio, "sleep", sleep_at_most_once_short)
    at = host.now() + 0.01
    await host.sleep_until(at)
    assert host.now() >= at
    assert len(slept) >= 2
    assert 0.0 < slept[1] <= slept[0] <= 0.01


# ---- the disk of this machine

HOLD_THE_LOCK = """
import sys
from meshnode.real_disk import RealDisk
disk = RealDisk(sys.argv[1])
print("locked", flush=True)
sys.stdin.read()
"""


def test_a_directory_is_for_one_process_and_free_when_that_dies(root: str) -> None:
    command = [sys.executable, "-c", HOLD_THE_LOCK, root]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"locked\n"
        with pytest.raises(DataDirectoryError, match=r"locked by a running node.*--data"):
            RealDisk(root)
        holder.kill()
    RealDisk(root).close()


def test_a_refused_directory_leaves_nothing_open(root: str) -> None:
    disk = RealDisk(root)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with pytest.raises(DataDirectoryError, match="locked"):
            RealDisk(root)
    assert len(os.listdir("/proc/self/fd")) == before
    disk.close()


def test_a_path_under_a_file_is_no_data_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/no/such")):
        with pytest.raises(DataDirectoryError, match=f"{path}.*--data"):
            RealDisk(str(path))
    assert (tmp_path / "file").read_bytes() == b""


def test_a_directory_that_cannot_be_written_is_refused_though_its_lock_can(
    root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    RealDisk(root).close()
    # Root may write anywhere, so the answer to the question has to be given in its stead.
    monkeypatch.setattr(os, "access", lambda path, mode: not (path == root and mode & os.W_OK))
    with pytest.raises(DataDirectoryError, match=f"{root}.*Permission denied"):
        RealDisk(root)
    monkeypatch.undo()
    RealDisk(root).close()


def test_the_directory_and_its_files_are_for_their_owner_only(root: str) -> None:
    disk = RealDisk(root)
    disk.open("file", create=True).close()
    modes = [os.stat(path).st_mode & 0o077 for path in (root, f"{root}/file", f"{root}/{LOCK_NAME}")]
    disk.close()
    assert modes == [0, 0, 0]


def test_to_close_twice_leaves_alone_what_was_opened_in_between(root: str, tmp_path: Path) -> None:
    disk = RealDisk(root)
    file = disk.open("file", create=True)
    disk.close()
    file.close()
    with (tmp_path / "other").open("wb") as other, (tmp_path / "another").open("wb") as another:
        disk.close()
        file.close()
        assert os.fstat(other.fileno()).st_size == 0
        assert os.fstat(another.fileno()).st_size == 0


def test_room_is_there_for_whoever_opens_the_file_meanwhile(root: str) -> None:
    disk = RealDisk(root)
    file = disk.open("file", create=True)
    file.append(b"ab")
    file.reserve(5)
    other = disk.open("file", create=False)
    assert other.read(0, 10) == b"ab" + bytes(3)
    other.close()
    file.append(b"cd")
    file.close()
    assert (Path(root) / "file").read_bytes() == b"abcd"
    disk.close()


def test_where_there_is_no_room_none_is_made_and_nothing_fails(root: str) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    disk = RealDisk(root)
    file = disk.open("file", create=True)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
        file.append(b"x" * 600)
        file.reserve(5000)
        assert (Path(root) / "file").stat().st_size == 600
        file.append(b"x" * 400)
        with pytest.raises(OSError, match="File too large"):
            file.append(b"x")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        file.close()
        disk.close()


def test_a_closed_file_refuses_to_be_used(root: str) -> None:
    disk = RealDisk(root)
    file = disk.open("file", create=True)
    file.close()
    disk.close()
    for use in (lambda: file.append(b"x"), lambda: file.read(0, 1), file.sync, lambda: file.truncate(0)):
        with pytest.raises((OSError, ValueError), match="file descriptor"):
            use()


# ---- threads


async def test_blocking_work_leaves_the_loop_free(host: Host) -> None:
    go_on = threading.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(host.run_blocking, go_on.wait, PATIENCE_S)
        await trio.testing.wait_all_tasks_blocked()
        go_on.set()
    assert go_on.is_set()


async def test_blocking_work_that_has_begun_is_not_interrupted_by_a_cancellation(host: Host) -> None:
    begun, go_on = threading.Event(), threading.Event()
    results: list[bool] = []

    def work() -> bool:
        begun.set()
        return go_on.wait(PATIENCE_S)

    async def run() -> None:
        results.append(await host.run_blocking(work))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await trio.to_thread.run_sync(begun.wait, PATIENCE_S)
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await trio.testing.wait_all_tasks_blocked()
            assert results == []
            go_on.set()
    assert results == [True]


async def test_no_more_blocking_work_runs_at_a_time_than_there_are_threads_for_it(host: Host) -> None:
    go_on = threading.Event()
    begun: list[int] = []

    def work(number: int) -> None:
        begun.append(number)
        go_on.wait(PATIENCE_S)

    async with trio.open_nursery() as nursery:
        for number in range(BLOCKING_THREADS_MAX + 3):
            nursery.start_soon(host.run_blocking, work, number)
        await trio.testing.wait_all_tasks_blocked()
        while len(begun) < BLOCKING_THREADS_MAX:
            await trio.lowlevel.checkpoint()
        await trio.testing.wait_all_tasks_blocked()
        assert len(begun) == BLOCKING_THREADS_MAX
        go_on.set()
    assert len(begun) == BLOCKING_THREADS_MAX + 3


async def test_work_of_one_loop_waits_for_no_thread_of_another(host: Host) -> None:
    go_on = threading.Event()
    done: list[str] = []

    async def main(ready: Callable[[], None]) -> None:
        ready()
        async with trio.open_nursery() as nursery:
            for _ in range(BLOCKING_THREADS_MAX + 3):
                nursery.start_soon(host.run_blocking, go_on.wait, PATIENCE_S)
        done.append("the other loop's")

    async with trio.open_nursery() as nursery:
        await nursery.start(host.own_loop, main)
        await host.run_blocking(done.append, "this loop's")
        go_on.set()
    assert done == ["this loop's", "the other loop's"]


# ---- a loop of its own, in a thread


async def test_a_main_loop_that_blocks_does_not_stop_the_other(host: Host) -> None:
    answered = threading.Event()
    questions: Mailbox[str, int] = host.mailbox(1)

    async def main(ready: Callable[[], None]) -> None:
        ready()
        await questions.receive()
        await host.sleep_until(host.now() + 0.001)
        answered.set()

    async with trio.open_nursery() as nursery:
        await nursery.start(host.own_loop, main)
        questions.put("are you there", 1)
        assert answered.wait(PATIENCE_S)  # the whole loop blocks here


async def test_a_loop_is_ready_once(host: Host) -> None:
    async def main(ready: Callable[[], None]) -> None:
        ready()
        ready()

    with pytest.RaisesGroup(pytest.RaisesExc(AssertionError, match="twice"), flatten_subgroups=True):
        async with trio.open_nursery() as nursery:
            await nursery.start(host.own_loop, main)


async def test_a_loop_that_ends_without_being_ready_is_an_error_of_its_start(host: Host) -> None:
    async def main(_ready: Callable[[], None]) -> None:
        return

    async with trio.open_nursery() as nursery:
        with pytest.raises(RuntimeError, match="started"):
            await nursery.start(host.own_loop, main)


async def test_no_thread_is_left_behind(host: Host) -> None:
    names: list[str] = []

    async def main(ready: Callable[[], None]) -> None:
        names.append(threading.current_thread().name)
        ready()
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        await nursery.start(host.own_loop, main)
        assert names[0] != threading.current_thread().name
        nursery.cancel_scope.cancel()
    # Trio keeps idle threads for later; they hold no loop any more, so a second one starts afresh.
    await host.own_loop(return_at_once)


async def return_at_once(_ready: Callable[[], None]) -> None:
    """A loop without a life."""


# ---- mailboxes between threads


async def test_nothing_is_lost_between_many_threads_that_send(host: Host) -> None:
    senders, each = 8, 500
    mailbox: Mailbox[tuple[int, int], int] = host.mailbox(senders * each)
    threads = [threading.Thread(target=send_numbers, args=(mailbox, sender, each)) for sender in range(senders)]
    for thread in threads:
        thread.start()
    received: dict[tuple[int, int], int] = {}
    order: list[tuple[int, int]] = []
    while len(received) < senders * each:
        taken = await mailbox.receive()
        assert not taken.keys() & received.keys()
        received.update(taken)
        order.extend(taken)
    for thread in threads:
        thread.join()
    assert mailbox.dropped == 0
    for sender in range(senders):
        assert [number for who, number in order if who == sender] == list(range(each))


def send_numbers(mailbox: Mailbox[tuple[int, int], int], sender: int, count: int) -> None:
    for number in range(count):
        mailbox.put((sender, number), number)


async def test_of_each_subject_the_newest_value_arrives_from_every_thread(host: Host) -> None:
    senders, each = 8, 500
    mailbox: Mailbox[int, int] = host.mailbox(senders)

    def send(sender: int) -> None:
        for number in range(each):
            mailbox.put(sender, number)

    threads = [threading.Thread(target=send, args=(sender,)) for sender in range(senders)]
    for thread in threads:
        thread.start()
    newest = dict.fromkeys(range(senders), -1)
    while set(newest.values()) != {each - 1}:
        for sender, number in (await mailbox.receive()).items():
            assert number > newest[sender]
            newest[sender] = number
    for thread in threads:
        thread.join()
    assert mailbox.dropped == 0


async def test_dropped_and_received_events_of_many_threads_add_up(host: Host) -> None:
    senders, each, bound = 4, 500, 16
    mailbox: Mailbox[tuple[int, int], int] = host.mailbox(bound)
    threads = [threading.Thread(target=send_numbers, args=(mailbox, sender, each)) for sender in range(senders)]
    for thread in threads:
        thread.start()
    received = 0
    while any(thread.is_alive() for thread in threads):
        with host.deadline(host.now() + 0.01):
            received += len(await mailbox.receive())
    mailbox.put((senders, 0), 0)
    received += len(await mailbox.receive())
    assert received + mailbox.dropped == senders * each + 1


def test_a_mailbox_may_be_filled_where_no_loop_runs() -> None:
    host = RealHost()
    mailbox: Mailbox[str, int] = host.mailbox(2)
    mailbox.put("before", 1)
    assert trio.run(mailbox.receive) == {"before": 1}
    mailbox.put("between", 2)  # the loop that received last is over
    assert trio.run(mailbox.receive) == {"between": 2}
