"""A file tried on a device: does it load, does it agree with Keras, how fast is it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tfprune.measurement import runtime
from tfprune.measurement.devices import Device
from tfprune.tflite.reference import Reference


class Trial:
    """A device, the samples that are run on it, and the file that is timed beside.

    Attributes:
      row: what every row of this device says.
      baseline: the file that takes turns with those that are tried, None for none.
    """

    def __init__(
        self,
        device: Device,
        reference: Reference,
        *,
        folder: Path,
        baseline: str | os.PathLike | None,
        options: dict[str, float],
    ) -> None:
        """Writes the samples into `folder`, once for all files.

        Args:
          device: where files are run.
          reference: samples, and what Keras returns for them.
          folder: a place for the samples.
          baseline: a .tflite file that takes the same inputs.
          options: of `runtime.run`.
        """
        import keras

        self.device, self.reference, self.options = device, reference, options
        self.baseline = baseline
        self.row = {"device": device.name, "emulated": device.emulated}
        folder.mkdir()
        self.inputs = []
        for i, part in enumerate(keras.tree.flatten(reference.inputs)):
            self.inputs.append(folder / f"input_{i}.npy")
            np.save(self.inputs[-1], part, allow_pickle=False)

    def verify(self, file: Path, *, tolerance: float) -> dict:
        """Returns the figures of `file` here, and "ok" only if it runs and agrees with Keras.

        Its `status` is "failed" with a `reason` otherwise, and "away" if the device was lost.

        Args:
          file: the .tflite file.
          tolerance: largest relative error, see `parity.compare`.
        """
        try:
            result = runtime.run(
                file,
                self.inputs,
                device=self.device,
                baseline=self.baseline,
                profile=True,
                **self.options,
            )
        except OSError as error:
            return self.row | {"status": "away", "reason": str(error)}
        if result["status"] != "ok":
            return self.row | result
        result |= {"reason": "", **self.row}
        if result.get("ops"):
            # "Convolution (NCHW, F32) SPMM": sparse by dense matrix.
            result["sparse_kernels"] = sum("SPMM" in op["name"] for op in result["ops"])
        if "latency_ms_median" not in result:
            result["latency_ms_median"] = result["latency_ms_mean"]
            result["note"] = "the latency is a mean: this device tells no median"
        if "outputs" not in result:
            result["note"] = "this device returns no outputs to compare"
            return result
        outputs = result.pop("outputs")
        errors = self.reference.first(len(outputs[0])).judge(outputs)
        if np.isinf(errors["relative_error"]) or errors["relative_error"] > tolerance:
            # Its timings would be those of a wrong computation.
            return self.row | {"status": "failed", "reason": _why(errors, tolerance), **errors}
        return result | errors


def on_devices(
    devices: Sequence[Device],
    reference: Reference,
    *,
    folder: str | os.PathLike,
    baseline: str | os.PathLike | None,
    device_samples: int | None,
    options: dict[str, float],
) -> list[Trial]:
    """Returns a trial a device, each with as many samples as it has time for.

    Args:
      devices: where files are run.
      reference: samples, and what is expected for them.
      folder: an empty folder for the samples.
      baseline: as in `Trial`.
      device_samples: how many samples, where not all are run; by default what the device says.
      options: as in `Trial`.
    """
    return [
        Trial(
            device,
            reference.first(device_samples or device.samples) if device.samples else reference,
            folder=Path(folder, str(number)),
            baseline=baseline,
            options=options,
        )
        for number, device in enumerate(devices)
    ]


def _why(errors: dict[str, float], tolerance: float) -> str:
    if np.isinf(errors["relative_error"]):
        return "the file returns NaN or infinite values where Keras' are finite"
    return (
        f"the file disagrees with Keras: mean error {errors['relative_error']:.3g} of the spread "
        f"of Keras' outputs, where {tolerance:g} is allowed "
        f"(largest {errors['max_abs_error']:.3g})"
    )
