"""Building programs, and keeping them."""

import contextlib
import dataclasses
import multiprocessing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kernels import reference
from kernels.binary_cache import BinaryCache
from kernels.device import DeviceInfo, discover
from kernels.errors import DeviceError
from kernels.source import program_source
from kernels.tiling import Tiling, lanes_tiling, tiling_for
from tests.kernels.networks import features, network, tolerance

pytestmark = pytest.mark.device


def test_the_second_build_reads_the_binary_of_the_first(device: DeviceInfo, tmp_path: Path) -> None:
    from kernels.program import Origin, build

    first = build(device, tiling_for(device), tmp_path)
    second = build(device, tiling_for(device), tmp_path)
    assert (first.origin, second.origin) == (Origin.COMPILED, Origin.DISK)
    assert second.kernels().keys() == first.kernels().keys()


def test_a_binary_is_read_while_no_other_process_reads_or_makes_it(
    device: DeviceInfo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kernels import program

    program.build(device, tiling_for(device), tmp_path)
    building, from_disk = BinaryCache.building, program._from_disk
    held: list[bool] = [False]

    @contextlib.contextmanager
    def noted(cache: BinaryCache, key: str) -> Iterator[None]:
        with building(cache, key):
            held[0] = True
            yield
        held[0] = False

    def only_alone(*arguments: Any) -> Any:
        assert held[0], "two processes at once: PoCL aborts one"
        return from_disk(*arguments)

    monkeypatch.setattr(BinaryCache, "building", noted)
    monkeypatch.setattr(program, "_from_disk", only_alone)
    assert program.build(device, tiling_for(device), tmp_path).origin is program.Origin.DISK
    assert not held[0]


def test_a_process_builds_a_program_once(device: DeviceInfo, tmp_path: Path) -> None:
    from kernels.program import program_for

    first = program_for(device, tiling_for(device), tmp_path)
    assert program_for(device, tiling_for(device), None) is first


class Twin:
    """A second device that equals the first in all that a driver tells; OpenCL has it under another pointer."""

    def __init__(self, first: Any) -> None:
        self.int_ptr = first.int_ptr + 64


def test_two_devices_that_are_equal_have_a_program_each(
    device: DeviceInfo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kernels import program

    tiling = tiling_for(device)
    twin = dataclasses.replace(device, handle=Twin(device.handle))
    assert twin == device
    built: list[object] = []

    def noted(of: DeviceInfo, tiling: Tiling, cache_dir: Path | None) -> program.Program:
        built.append(of.handle)
        return program.Program(of, tiling, program.Origin.COMPILED, object(), object())

    monkeypatch.setattr(program, "build", noted)
    monkeypatch.setattr(program, "_programs", {})
    first, second = (program.program_for(of, tiling, tmp_path) for of in (device, twin))
    assert built == [device.handle, twin.handle]
    assert first.context is not second.context
    assert program.program_for(device, tiling, tmp_path) is first
    program.forget(first)
    assert program.program_for(twin, tiling, tmp_path) is second
    assert program.program_for(device, tiling, tmp_path) is not first


def test_without_a_directory_nothing_is_kept(device: DeviceInfo, tmp_path: Path) -> None:
    from kernels.program import Origin, build

    assert build(device, tiling_for(device), None).origin is Origin.COMPILED
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_a_corrupt_entry_is_compiled_anew_and_replaced(device: DeviceInfo, tmp_path: Path, damage: str) -> None:
    from kernels.program import Origin, build

    build(device, tiling_for(device), tmp_path)
    (entry,) = tmp_path.glob("*.clbin")
    whole = entry.read_bytes()
    entry.write_bytes({"cut": whole[:100], "flipped": whole[:-1] + bytes([whole[-1] ^ 1]), "empty": b""}[damage])
    assert build(device, tiling_for(device), tmp_path).origin is Origin.COMPILED
    assert build(device, tiling_for(device), tmp_path).origin is Origin.DISK


def test_an_entry_that_the_driver_does_not_accept_is_compiled_anew(device: DeviceInfo, tmp_path: Path) -> None:
    from kernels.program import Origin, build, cache_key

    tiling = tiling_for(device)
    BinaryCache(tmp_path).put(cache_key(device, program_source(tiling)), b"from another driver")
    assert build(device, tiling, tmp_path).origin is Origin.COMPILED
    assert build(device, tiling, tmp_path).origin is Origin.DISK


def test_an_entry_without_the_kernels_is_compiled_anew(device: DeviceInfo, tmp_path: Path) -> None:
    import pyopencl as cl

    from kernels.program import Origin, build, cache_key

    tiling = tiling_for(device)
    other = build(device, tiling, None, source="__kernel void nothing(__global int *x) { x[0] = 1; }")
    binary = other.built.get_info(cl.program_info.BINARIES)[0]
    BinaryCache(tmp_path).put(cache_key(device, program_source(tiling)), binary)
    assert build(device, tiling, tmp_path).origin is Origin.COMPILED


def test_the_key_names_all_that_a_binary_depends_on(device: DeviceInfo) -> None:
    from kernels.program import cache_key

    source = program_source(lanes_tiling(4))
    keys = {cache_key(device, source), cache_key(device, program_source(lanes_tiling(8)))}
    for field in ("name", "vendor", "platform", "platform_version", "driver_version"):
        another: Any = {field: "another"}
        keys.add(cache_key(dataclasses.replace(device, **another), source))
    assert len(keys) == 7
    assert cache_key(device, source) in keys


def test_a_failed_build_gives_the_first_lines_of_the_log(device: DeviceInfo, tmp_path: Path) -> None:
    from kernels.program import build

    source = program_source(tiling_for(device)) + "\n".join(
        f"void f{n}(void) {{ undefined_{n} = 1; }}" for n in range(50)
    )
    with pytest.raises(DeviceError, match=r"build failed: .*undefined_0") as caught:
        build(device, tiling_for(device), tmp_path, source=source)
    assert "undefined_9" not in str(caught.value)
    assert list(tmp_path.glob("*.clbin")) == []


def _build_and_predict(directory: Path, start: Any, results: Any) -> None:
    from kernels.opencl import OpenClEngine
    from kernels.program import program_for

    device = discover().devices[0]
    start.wait()
    engine = OpenClEngine(device, cache_dir=directory, host_flop_max=-1)
    model = network([20, 30, 4])
    rows = features(model, 9)
    difference = abs(engine.predict(engine.load(model), rows) - reference.forward(model, rows)).max()
    results.put((program_for(device, tiling_for(device), directory).origin.value, float(difference)))


def test_of_processes_that_start_at_once_one_compiles_and_all_predict(device: DeviceInfo, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    start, results = context.Barrier(3), context.Queue()
    processes = [context.Process(target=_build_and_predict, args=(tmp_path, start, results)) for _ in range(3)]
    for process in processes:
        process.start()
    outcomes = [results.get(timeout=50) for _ in processes]
    for process in processes:
        process.join()
    assert sorted(origin for origin, _ in outcomes) == ["compiled", "disk", "disk"]
    assert all(difference <= tolerance(network([20, 30, 4])) for _, difference in outcomes)
