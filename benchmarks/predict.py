"""Batched prediction: this project's engine beside numpy and ONNX Runtime.

    python -m benchmarks.predict [--peers numpy,onnxruntime] [--rounds N] [--quick] [--device NAME] [--json FILE]

Every system answers the same rows of the same networks, one call at a time; what is timed is the call, from rows in
host memory to probabilities in host memory. In each round the systems take turns. A turn starts with a pause, because
the threads of a BLAS keep a core busy for a while after their last call, and the next system would pay for it.
`gflop_per_s` counts two operations a weight and row. Our engine answers the smallest batches on the host, without a
launch; their rows say so in `device`.
"""

import argparse
import importlib
import importlib.util
import itertools
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.report import parse, write_report
from kernels import Backend, Engine, Layer, Mlp, open_engine, reference
from kernels.model import Floats
from kernels.reference import HOST_FLOP_MAX

Predict = Callable[[Floats], Floats]

NETWORKS: Final = ((64, 64, 10), (32, 64, 64, 8), (784, 512, 512, 10))
BATCHES: Final = (1, 32, 256, 4096)
# One wide layer: what is left when nothing but the arithmetic counts.
WIDE: Final = (2048, 2048)
WIDE_BATCHES: Final = (36, 264, 4104)
PEERS: Final = ("numpy", "onnxruntime")
# Long enough for a BLAS's idle threads to go to sleep.
PAUSE_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class System:
    """One system with one network ready."""

    name: str
    device: str
    predict: Predict


def network(widths: Sequence[int]) -> Mlp:
    """Random weights, scaled so that activations stay near one."""
    rng = np.random.default_rng(0)
    layers = []
    for inputs, outputs in itertools.pairwise(widths):
        weights = rng.standard_normal((inputs, outputs), np.float32) / np.float32(inputs**0.5)
        layers.append(Layer(weights, rng.standard_normal(outputs, np.float32)))
    return Mlp(tuple(layers))


def onnx_predict(model: Mlp) -> Predict:
    """The network as an ONNX graph (Gemm, Relu, Softmax), in a session with default options."""
    onnx: Any = importlib.import_module("onnx")
    onnxruntime: Any = importlib.import_module("onnxruntime")
    nodes, initializers = [], []
    value = "rows"
    for number, layer in enumerate(model.layers):
        last = number + 1 == len(model.layers)
        initializers += [
            onnx.numpy_helper.from_array(layer.weights, f"w{number}"),
            onnx.numpy_helper.from_array(layer.bias, f"b{number}"),
        ]
        nodes.append(onnx.helper.make_node("Gemm", [value, f"w{number}", f"b{number}"], [f"gemm{number}"]))
        value = "probabilities" if last else f"hidden{number}"
        nodes.append(onnx.helper.make_node("Softmax" if last else "Relu", [f"gemm{number}"], [value]))
    graph = onnx.helper.make_graph(
        nodes,
        "mlp",
        [onnx.helper.make_tensor_value_info("rows", onnx.TensorProto.FLOAT, ["n", model.inputs])],
        [onnx.helper.make_tensor_value_info("probabilities", onnx.TensorProto.FLOAT, ["n", model.outputs])],
        initializers,
    )
    made = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=10)
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])

    def predict(rows: Floats) -> Floats:
        probabilities: Floats = session.run(None, {"rows": rows})[0]
        return probabilities

    return predict


def systems(engine: Engine, model: Mlp, peers: Sequence[str]) -> list[System]:
    """Ours first, then the peers."""
    handle = engine.load(model)
    made = [System("meshnode", engine.description.device, lambda rows: engine.predict(handle, rows))]
    if "numpy" in peers:
        made.append(System("numpy", "cpu", lambda rows: reference.forward(model, rows)))
    if "onnxruntime" in peers:
        made.append(System("onnxruntime", "cpu", onnx_predict(model)))
    return made


def turn(predict: Predict, rows: Floats, budget_s: float) -> list[float]:
    """Seconds of each call, for about `budget_s` and at least three calls."""
    time.sleep(PAUSE_S)
    predict(rows)
    latencies: list[float] = []
    end = time.perf_counter() + budget_s
    while len(latencies) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        predict(rows)
        latencies.append(time.perf_counter() - start)
    return latencies


def measure(
    engine: Engine, widths: Sequence[int], batch: int, *, peers: Sequence[str], rounds: int, budget_s: float
) -> list[dict[str, Any]]:
    """The rows of the report for one network and batch size."""
    model = network(widths)
    features = np.random.default_rng(1).standard_normal((batch, model.inputs), np.float32)
    expected = reference.forward(model, features)
    flop = 2 * batch * sum(layer.weights.size for layer in model.layers)
    contenders = systems(engine, model, peers)
    latencies: dict[str, list[list[float]]] = {system.name: [] for system in contenders}
    for _ in range(rounds):
        for system in contenders:
            latencies[system.name].append(turn(system.predict, features, budget_s))

    report = []
    for system in contenders:
        error = float(np.abs(system.predict(features) - expected).max())
        p50 = [statistics.median(each) for each in latencies[system.name]]
        p99 = [float(np.quantile(each, 0.99)) for each in latencies[system.name]]
        metrics = (
            ("latency_p50_us", "us", [1e6 * value for value in p50]),
            ("latency_p99_us", "us", [1e6 * value for value in p99]),
            ("rows_per_s", "1/s", [batch / value for value in p50]),
            ("gflop_per_s", "GFLOP/s", [flop / value / 1e9 for value in p50]),
            ("max_error", "1", [error]),
        )
        on_host = system.name == "meshnode" and flop <= HOST_FLOP_MAX
        for metric, unit, values in metrics:
            report.append(
                {
                    "system": system.name,
                    "metric": metric,
                    "model": model.shape,
                    "batch": batch,
                    "device": "host" if on_host else system.device,
                    "value": statistics.median(values),
                    "unit": unit,
                    "rounds": values,
                }
            )
    engine.close()
    return report


def print_table(report: Sequence[dict[str, Any]]) -> None:
    """One line for each network, batch and system."""
    line = "{:>17} {:>6} {:>12} {:>12} {:>12} {:>13} {:>10} {:>10}\n"
    sys.stdout.write(line.format("model", "batch", "system", "p50 µs", "p99 µs", "rows/s", "GFLOP/s", "error"))
    keys = dict.fromkeys((row["model"], row["batch"], row["system"]) for row in report)
    for key in keys:
        value = {row["metric"]: row["value"] for row in report if (row["model"], row["batch"], row["system"]) == key}
        figures = (
            f"{value['latency_p50_us']:.1f}",
            f"{value['latency_p99_us']:.1f}",
            f"{value['rows_per_s']:,.0f}",
            f"{value['gflop_per_s']:.1f}",
            f"{value['max_error']:.1e}",
        )
        sys.stdout.write(line.format(*key, *figures))


def missing(engine: Engine, wanted: Sequence[str]) -> list[dict[str, str]]:
    """Systems that were asked for and cannot run here."""
    absent = []
    if engine.description.backend is Backend.NUMPY:
        absent.append({"system": "meshnode on OpenCL", "why": engine.description.reason})
    for module in ("onnxruntime", "onnx"):
        if "onnxruntime" in wanted and importlib.util.find_spec(module) is None:
            absent.append({"system": "onnxruntime", "why": f"{module} not found; pip install onnxruntime onnx"})
            break
    return absent


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.predict", description="Batched prediction, compared.")
    parser.add_argument("--device", default="", help="part of the name of the OpenCL device or platform, or a kind")
    parser.add_argument("--cache", type=Path, help="where compiled kernels are kept; default: nowhere")
    return parse(parser, PEERS, quick="one short round of the smaller workloads")


def main() -> None:
    """Measure, print, write."""
    options = arguments()
    wanted = [peer for peer in options.peers.split(",") if peer]
    engine = open_engine(preference=options.device, cache_dir=options.cache)
    absent = missing(engine, wanted)
    peers = [peer for peer in wanted if peer not in {entry["system"] for entry in absent}]
    workloads: list[tuple[tuple[int, ...], int]] = [(widths, batch) for widths in NETWORKS for batch in BATCHES]
    workloads += [(WIDE, batch) for batch in WIDE_BATCHES]
    rounds, budget_s = options.rounds, 0.3
    if options.quick:
        workloads = [(widths, batch) for widths, batch in workloads if batch <= 264]
        rounds, budget_s = 1, 0.05
    sys.stdout.write(f"meshnode: {engine.description}\n")
    sys.stdout.write("numpy, onnxruntime: default threads and options\n")
    report: list[dict[str, Any]] = []
    for widths, batch in workloads:
        report += measure(engine, widths, batch, peers=peers, rounds=rounds, budget_s=budget_s)
    print_table(report)
    for entry in absent:
        sys.stdout.write(f"missing: {entry['system']}: {entry['why']}\n")
    if options.json is not None:
        write_report(options.json, "predict", rows=report, missing=absent)


if __name__ == "__main__":
    main()
