# ruff: noqa: ANN001, ANN002, ANN202, B905
# (the class of an interpreter depends on the runtime; zip has no strict= before Python 3.10)
"""Runs a .tflite file on real samples and times it: `python worker.py request.json`.

This file stands alone, on NumPy and a LiteRT runtime, so that it can be copied to a board; it
runs on Python 3.8 and later. A crash of the runtime ends this process and nothing else.

The request holds (paths are relative to it):
  models: .tflite files. The first is the one that is run and judged; the others take turns with it
    while it is timed: what slows the machine down for a while slows all of them down.
  inputs: {input name: .npy file with one sample a row}. Float samples for quantised inputs.
  result: the .json file to write.
  outputs: folder for output_0.npy, ...: float32, one row a sample; absent to only time.
  threads, warmup, runs, min_seconds, max_seconds: of the timing.
  per_turn: timed runs of a file before it is the next one's turn, 10 if absent.
  workers: interpreters that share the samples once the timing is over.
  profile: whether to time single operators, where the runtime can.

The result holds `status` "ok" and the figures, among them `turns`, the median milliseconds of each
file in each turn, and `ops`, its operators; or "failed" and `reason`. One line a step goes to
stdout: whoever waits can tell a slow run from a hung one.
"""

from __future__ import annotations

import concurrent.futures
import ctypes
import importlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import select
import signal
import sys
import time

import numpy as np

_RUNTIMES = (
    ("ai-edge-litert", "ai_edge_litert.interpreter"),
    ("tflite-runtime", "tflite_runtime.interpreter"),
    ("tensorflow", "tensorflow.lite"),
)
_TIMED_SAMPLES = 32
_SAMPLES_PER_WORKER = 64
_RUNS_PER_TURN = 10
# Inferences that are profiled, and kinds of its events: operators of TFLite, and of a delegate.
_PROFILED, _KINDS = 3, (2, 8)
# A few runs, and the share of the best ones before at which they count as no faster.
_WARM, _STABLE = 5, 0.95
_told = [0.0]


def main(request_file: str) -> None:
    """Answers the request in `request_file`; failures that Python sees go into the result."""
    folder = os.path.dirname(os.path.abspath(request_file))
    with open(request_file, encoding="utf-8") as file:
        request = json.load(file)
    try:
        result = {"status": "ok", **answer(request, folder)}
    except Exception as error:
        result = {"status": "failed", "reason": f"{type(error).__name__}: {error}"}
    whole(
        os.path.join(folder, request["result"]),
        lambda path: _write_text(path, json.dumps(result, indent=2)),
    )


def answer(request: dict, folder: str) -> dict:
    """Returns the figures of one request: latency and memory alone first, outputs afterwards."""
    runtime, interpreter_class = find_runtime()
    samples = {
        name: np.load(os.path.join(folder, path), mmap_mode="r", allow_pickle=False)
        for name, path in request["inputs"].items()
    }
    count = min((len(rows) for rows in samples.values()), default=0)
    if not count:
        raise ValueError("there are no samples to run the model on")
    # Copied, so that pages of the mapped files don't count as the model's memory.
    timed = {name: np.array(rows[:_TIMED_SAMPLES]) for name, rows in samples.items()}

    def load(model=request["models"][0]):
        return interpreter_class(
            model_path=os.path.join(folder, model), num_threads=request["threads"]
        )

    # Before the runtime is loaded here: it is a process of its own, for it may crash.
    path = os.path.join(folder, request["models"][0])
    ops = apart(lambda: profile(path), request["max_seconds"]) if request.get("profile") else []
    before, was_reset = memory_mark()
    start = time.perf_counter_ns()
    interpreter = load()
    interpreter.allocate_tensors()
    init = (time.perf_counter_ns() - start) / 1e6
    progress("loaded")
    first = ready(interpreter, timed, request)
    # Before the timing, whose own list of times grows, and before other files are there.
    memory = memory_since(before, was_reset)
    others = [ready(load(model), timed, request) for model in request["models"][1:]]
    times, turns = take_turns([first, *others], request)
    progress("timed")
    if request.get("outputs"):
        run_all(interpreter, load, samples, request, folder)
    return {
        "init_ms": init,
        **summary(times),
        "turns": turns,
        "ops": ops or [],
        "threads": request["threads"],
        "peak_memory_bytes": memory,
        "sparse_tensors": sum(
            bool(tensor.get("sparsity_parameters")) for tensor in interpreter.get_tensor_details()
        ),
        "samples": count,
        "runtime": runtime,
        "machine": platform.machine(),
    }


def find_runtime() -> tuple:
    """Returns name with version, and the Interpreter class, of the first runtime installed."""
    for package, module in _RUNTIMES:
        try:
            found = importlib.import_module(module).Interpreter
        except ImportError:
            continue
        return f"{package} {importlib.metadata.version(package)}", found
    raise ImportError("no LiteRT runtime is installed: run  pip install ai-edge-litert")


def tensors(interpreter) -> tuple[dict, list]:
    """Returns {name: details} of the inputs, and the details of the outputs in their order.

    Names are the signature's, where there is one: the order of a file's own tensors is arbitrary.
    """
    signatures = interpreter.get_signature_list()
    if not signatures:
        inputs = {tensor["name"]: tensor for tensor in interpreter.get_input_details()}
        return inputs, interpreter.get_output_details()
    runner = interpreter.get_signature_runner(next(iter(signatures)))
    outputs = runner.get_output_details()
    # By length first: output_2 comes before output_10.
    return runner.get_input_details(), [outputs[n] for n in sorted(outputs, key=_natural)]


def match(wanted: dict, samples: dict) -> list[tuple[dict, np.ndarray]]:
    """Returns pairs (input tensor, samples): by name where all names agree, else by order.

    Raises:
      ValueError: naming the inputs and their shapes, if they don't fit.
    """
    if set(wanted) == set(samples):
        pairs = [(wanted[name], samples[name]) for name in samples]
    else:
        pairs = list(zip((wanted[n] for n in sorted(wanted, key=_natural)), samples.values()))
    fits = len(wanted) == len(samples) and all(
        int(np.prod(tensor["shape"])) == int(np.prod(rows.shape[1:])) for tensor, rows in pairs
    )
    if not fits:
        raise ValueError(
            f"the file takes { ({n: d['shape'].tolist() for n, d in wanted.items()}) }, "
            f"one sample holds { ({n: list(rows.shape[1:]) for n, rows in samples.items()}) }"
        )
    return pairs


def feeder(interpreter, samples: dict):
    """Returns a function that sets the inputs to the sample with the given index."""
    pairs = match(tensors(interpreter)[0], samples)

    def feed(index: int) -> None:
        for tensor, rows in pairs:
            value = quantise(rows[index], tensor).reshape(tensor["shape"])
            interpreter.set_tensor(tensor["index"], value)

    return feed


def quantise(value: np.ndarray, tensor: dict) -> np.ndarray:
    """Returns `value` in the type of `tensor`: q = round(value / scale + zero point), clipped."""
    scale, zero = tensor["quantization"]
    dtype = np.dtype(tensor["dtype"])
    if dtype.kind not in "iu" or not scale:
        return np.asarray(value).astype(dtype)
    limits = np.iinfo(dtype)
    steps = np.rint(np.asarray(value, np.float64) / scale + zero)
    return np.clip(steps, limits.min, limits.max).astype(dtype)


def dequantise(value: np.ndarray, tensor: dict) -> np.ndarray:
    """Returns a tensor's `value` as float32: (q - zero point) * scale."""
    scale, zero = tensor["quantization"]
    if value.dtype.kind not in "iu" or not scale:
        return value.astype(np.float32)
    return ((value.astype(np.float64) - zero) * scale).astype(np.float32)


def ready(interpreter, samples: dict, request: dict):
    """Returns a function that runs the model on the next sample and returns the milliseconds.

    Setting inputs is not timed. The model has been run as long as it got faster: `warmup` times at
    least, until the median of a few runs isn't below the ones before, for `max_seconds` at most.
    """
    interpreter.allocate_tensors()
    feed = feeder(interpreter, samples)
    count = min(len(rows) for rows in samples.values())
    done = [0]

    def step() -> float:
        feed(done[0] % count)
        done[0] += 1
        begin = time.perf_counter_ns()
        interpreter.invoke()
        return (time.perf_counter_ns() - begin) / 1e6

    start = time.perf_counter()
    best = float("inf")
    while time.perf_counter() - start < request["max_seconds"]:
        times = []
        for _ in range(max(1, min(request["warmup"], _WARM))):
            times.append(step())
            still_alive("warming up")
        stable = float(np.median(times)) > _STABLE * best
        if done[0] >= request["warmup"] and (stable or request["warmup"] < _WARM):
            break
        best = min(best, float(np.median(times)))
    progress("warmed up")
    return step


def take_turns(steps: list, request: dict) -> tuple[np.ndarray, list]:
    """Returns the milliseconds of each run of the first file, and of all their medians by turns.

    A file runs several times in a row, where there are others once before without being timed, so
    that what it needs is in the caches as it is when it runs alone. It goes on until there are
    `runs` and `min_seconds` have passed, at most for `max_seconds`, but never less than a turn.
    """
    length = request.get("per_turn", _RUNS_PER_TURN)
    first, medians = [], []
    start = time.perf_counter()
    while True:
        seconds = time.perf_counter() - start
        enough = len(first) >= request["runs"] and seconds >= request["min_seconds"]
        if first and (enough or seconds >= request["max_seconds"]):
            return np.array(first), medians
        turn = []
        for step in steps:
            if len(steps) > 1 and length > 1:
                step()
            times = []
            while len(times) < length and not (
                times and time.perf_counter() - start >= request["max_seconds"]
            ):
                times.append(step())
                still_alive("timing")
            turn.append(times)
        first += turn[0]
        medians.append([float(np.median(times)) for times in turn])


def summary(times: np.ndarray) -> dict:
    """Returns median, spread and extremes of `times` (milliseconds), and how many there are."""
    low, median, high, p90 = np.percentile(times, [25, 50, 75, 90])
    return {
        "latency_ms_median": float(median),
        "latency_ms_iqr": float(high - low),
        "latency_ms_p90": float(p90),
        "latency_ms_min": float(times.min()),
        "runs": len(times),
    }


def run_all(interpreter, load, samples: dict, request: dict, folder: str) -> None:
    """Writes the outputs of every sample, one float32 .npy an output."""
    outputs = tensors(interpreter)[1]
    count = min(len(rows) for rows in samples.values())
    workers = max(1, min(request["workers"], count // _SAMPLES_PER_WORKER))
    paths = [
        os.path.join(folder, request["outputs"], f"output_{i}.npy") for i in range(len(outputs))
    ]

    def fill(index: int, files: list[np.ndarray]) -> None:
        # A runtime frees the GIL while it computes, so threads do run side by side.
        own = interpreter if index == 0 else load()
        own.allocate_tensors()
        feed = feeder(own, samples)
        for row in range(index, count, workers):
            feed(row)
            own.invoke()
            for tensor, file in zip(outputs, files):
                value = dequantise(own.get_tensor(tensor["index"]), tensor)
                file[row] = value.reshape(file.shape[1:])
            still_alive(f"sample {row + 1} of {count}")

    files = [
        np.lib.format.open_memmap(
            path + ".partial", mode="w+", dtype=np.float32, shape=(count, *_row_shape(tensor))
        )
        for path, tensor in zip(paths, outputs)
    ]
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        for future in [pool.submit(fill, index, files) for index in range(workers)]:
            future.result()
    for path, file in zip(paths, files):
        file.flush()
        os.replace(path + ".partial", path)


def apart(function, seconds: float):
    """Returns what `function` returns in a forked process, None if that fails, dies or hangs."""
    if not hasattr(os, "fork"):
        return None
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            text = json.dumps(function())
            with os.fdopen(write, "w", encoding="utf-8") as pipe:
                pipe.write(text)
        finally:
            os._exit(0)
    os.close(write)
    text, end = b"", time.monotonic() + seconds
    while select.select([read], [], [], max(0.0, end - time.monotonic()))[0]:
        chunk = os.read(read, 1 << 16)
        if not chunk:
            break
        text += chunk
    os.close(read)
    os.kill(child, signal.SIGKILL)  # if it is still there
    os.waitpid(child, 0)
    try:
        return json.loads(text)
    except ValueError:
        return None


class _Layout(ctypes.Structure):
    _fields_ = (
        ("rank", ctypes.c_uint32),
        ("sizes", ctypes.c_int32 * 8),
        ("strides", ctypes.c_uint32 * 8),
    )


class _TensorType(ctypes.Structure):
    _fields_ = (("element", ctypes.c_int), ("layout", _Layout))


class _Event(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("kind", ctypes.c_int),
        ("start_us", ctypes.c_uint64),
        ("elapsed_us", ctypes.c_uint64),
        ("memory", ctypes.c_size_t * 6),
        ("metadata", ctypes.c_uint64 * 2),
        ("source", ctypes.c_int),
    )


def profile(path) -> list:
    """Returns `op`, `name`, `ms` and `share` of the operators of a file, in the order they run.

    It is the profiler of LiteRT's C library, as of version 2.3, which Python's interface does not
    show. Of a delegate, such as XNNPACK, the operators are its own, named as its kernels. Inputs
    are zeros, milliseconds those of a mean inference on one thread, profiled.
    """
    spec = importlib.util.find_spec("ai_edge_litert")
    library = ctypes.CDLL(os.path.join(spec.submodule_search_locations[0], "libLiteRt.so"))
    pointer, size = ctypes.c_void_p, ctypes.c_size_t

    def do(name, *args) -> None:
        if status := getattr(library, "LiteRt" + name)(*args):
            raise RuntimeError(f"{name}: status {status}")

    def get(name, *args, kind=pointer):
        result = kind()
        do(name, *args, ctypes.byref(result))
        return result

    environment = get("CreateEnvironment", 0, None)
    model = get("CreateModelFromFile", environment, path.encode())
    options = get("CreateOptions")
    do("SetOptionsHardwareAccelerators", options, 1)
    text = ctypes.create_string_buffer(b"enable_profiling = true\n")
    nothing = ctypes.CFUNCTYPE(None, pointer)(lambda _: None)
    own = get("CreateOpaqueOptions", b"runtime_options_string", text, nothing)
    do("AddOpaqueOptions", options, own)
    compiled = get("CreateCompiledModel", environment, model, options)
    profiler = get("CompiledModelGetProfiler", compiled)
    signature = get("GetModelSignature", model, size(0))
    ends = []
    for end in ("Input", "Output"):
        count = get(f"GetNumSignature{end}s", signature, kind=size).value
        buffers = (pointer * count)()
        for i in range(count):
            tensor = get(f"GetSignature{end}TensorByIndex", signature, size(i))
            kind = get("GetRankedTensorType", tensor, kind=_TensorType)
            needs = get(f"GetCompiledModel{end}BufferRequirements", compiled, size(0), size(i))
            buffers[i] = get(
                "CreateManagedTensorBufferFromRequirements", environment, ctypes.byref(kind), needs
            )
        ends += [size(count), buffers]
    do("RunCompiledModel", compiled, size(0), *ends)
    do("StartProfiler", profiler)
    for _ in range(_PROFILED):
        do("RunCompiledModel", compiled, size(0), *ends)
    do("StopProfiler", profiler)
    count = get("GetNumProfilerEvents", profiler, kind=ctypes.c_int).value
    events = (_Event * count)()
    do("GetProfilerEvents", profiler, count, events)
    kept = [(event.name.decode(), event.elapsed_us) for event in events if event.kind in _KINDS]
    length = len(kept) // _PROFILED
    names = [name for name, _ in kept[:length]]
    times = np.array([us for _, us in kept]).reshape(_PROFILED, length).mean(0) / 1e3
    total = max(float(times.sum()), 1e-9)
    return [
        {"op": i, "name": name, "ms": float(ms), "share": float(ms) / total}
        for i, (name, ms) in enumerate(zip(names, times))
    ]


def memory_mark() -> tuple:
    """Returns the memory in use in bytes, and whether the kernel's high-water mark was reset."""
    was_reset = False
    try:
        with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
            file.write("5")
        was_reset = True
    except OSError:
        pass
    return _status("VmRSS", "VmHWM"), was_reset


def memory_since(before: tuple | None, was_reset: bool) -> int | None:
    """Returns bytes of memory used at the peak since `before`, None where that can't be told."""
    now = _status("VmRSS", "VmHWM")
    if before is None or now is None:
        return None
    # Without the reset an unmoved mark is the imports', and only the present use is known.
    peak = now[1] if was_reset or now[1] > before[1] else now[0]
    return max(0, peak - before[0])


def _status(*names: str) -> tuple | None:
    """Returns bytes of the named fields of this process; ru_maxrss where there is no /proc.

    ru_maxrss is no choice on Linux: it is inherited over exec, so it starts at the parent's peak.
    """
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            fields = dict(line.split(":", 1) for line in file if ":" in line)
        return tuple(int(fields[name].split()[0]) * 1024 for name in names)
    except (OSError, KeyError):
        pass
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return (peak * (1 if sys.platform == "darwin" else 1024),) * len(names)


def whole(path: str, write) -> None:
    """Calls `write` with a path beside `path` and renames it, so `path` is whole or absent."""
    write(path + ".partial")
    os.replace(path + ".partial", path)


def progress(line: str) -> None:
    """Tells whoever waits that a step is done."""
    _told[0] = time.perf_counter()
    print(line, flush=True)


def still_alive(line: str) -> None:
    """Tells whoever waits that work goes on, once a second."""
    if time.perf_counter() - _told[0] > 1:
        progress(line)


def _row_shape(tensor: dict) -> tuple:
    shape = tuple(int(size) for size in tensor["shape"])
    return shape[1:] if shape[:1] == (1,) else shape


def _natural(name: str) -> tuple:
    return len(name), name


def _write_text(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


if __name__ == "__main__":
    main(sys.argv[1])
