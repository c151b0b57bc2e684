"""Times `tfprune.shrink` of keras.applications' networks, beside building the smaller model alone.

  python tools/bench_shrink.py

Processor seconds, which other work on the machine hardly changes. "beyond" is what following the
channels and cutting the weights adds to cloning the small model; "memory" is the most that the
process grew by while it shrank the model, over the size of the model's weights.
"""

import ctypes
import gc
import pathlib
import subprocess
import sys
import threading
import time

from absl import app, flags

flags.DEFINE_list(
    "networks",
    ["MobileNetV2", "ResNet152V2", "InceptionResNetV2", "EfficientNetV2L", "NASNetLarge"],
    "Names of keras.applications.",
)
flags.DEFINE_integer("size", 96, "Of the input.")
FLAGS = flags.FLAGS

_PAGE = 4096


def _resident() -> int:
    return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * _PAGE


class _Peak(threading.Thread):
    """Notes the most memory that the process has until it is stopped."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        gc.collect()
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # else it would fill what was freed before
        self.start_bytes = self.most = _resident()
        self.done = threading.Event()
        self.start()

    def run(self) -> None:
        while not self.done.wait(0.01):
            self.most = max(self.most, _resident())

    def stop(self) -> int:
        self.done.set()
        self.join()
        return self.most - self.start_bytes


def measure(name: str) -> None:
    """Prints the row of one network."""
    import keras

    import tfprune
    from tfprune import zoo

    start = time.process_time()
    model = zoo.resolve(name, (FLAGS.size, FLAGS.size, 3), 10)
    build = time.process_time() - start
    tfprune.prune(
        model,
        "params:0.5",
        criterion="random",
        granularity="channel",
        allocation="uniform",
        in_place=True,
    )
    tfprune.detach(model)  # the masks, a byte a weight, are not the surgery's
    peak, start = _Peak(), time.process_time()
    small = tfprune.shrink(model)
    shrink = time.process_time() - start
    grown, start = peak.stop(), time.process_time()
    keras.models.clone_model(small)
    clone = time.process_time() - start
    size = sum(w.numpy().nbytes for w in model.weights)
    print(
        f"| {name} | {build:.1f} | {shrink:.1f} | {clone:.1f} | {shrink - clone:.1f} "
        f"| {grown / size:.2f} |",
        flush=True,
    )


def _main(argv: list[str]) -> None:
    del argv
    head = ("network", "build, s", "shrink, s", "clone of the small one, s", "beyond, s", "memory")
    if len(FLAGS.networks) > 1:
        print(f"| {' | '.join(head)} |\n{'|---' * len(head)}|", flush=True)
        for name in FLAGS.networks:  # each in a process that holds nothing else
            flags_given = [f"--networks={name}", f"--size={FLAGS.size}"]
            subprocess.run([sys.executable, __file__, *flags_given], check=True)
        return
    import keras

    keras.applications.MobileNet(weights=None, input_shape=(32, 32, 3))  # what is slow only once
    measure(*FLAGS.networks)


if __name__ == "__main__":
    app.run(_main)
