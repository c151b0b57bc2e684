"""A worker for `devices.Device.answer`: which of XNNPACK's kernels LiteRT runs, and what comes out.

request.json is a list of .tflite files, each beside an .npz of its input `x` and outputs `y0`, ...
result.json has for each file either `kernels`, the names in the runtime's own profile such as
"Convolution (NCHW, F32) SPMM", and `error`, the largest difference to `y` relative to the largest
value; or `failed`, what the runtime said. The profile is `profile` of tfprune's own worker, which
lies beside as tfprune_worker.py.
"""

import json
import pathlib
import sys

import numpy as np


def error(file):
    from ai_edge_litert.interpreter import Interpreter

    expected = np.load(pathlib.Path(file).with_suffix(".npz"))
    interpreter = Interpreter(str(file), num_threads=1)
    interpreter.allocate_tensors()
    found = interpreter.get_signature_runner()(input_0=expected["x"])
    worst = 0.0
    for i in range(len(found)):
        got, y = found[f"output_{i}"], expected[f"y{i}"]
        if got.shape != y.shape:
            return float("inf")
        worst = max(worst, float(np.abs(got - y).max() / np.abs(y).max()))
    return worst


def main():
    sys.path.insert(0, ".")
    import tfprune_worker

    result = {}
    for file in json.loads(pathlib.Path(sys.argv[1]).read_text()):
        try:
            names = [row["name"] for row in tfprune_worker.profile(file)]
            result[file] = {"kernels": names, "error": error(file)}
        except (RuntimeError, ValueError) as failure:
            result[file] = {"failed": str(failure)}
    pathlib.Path("result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main()
