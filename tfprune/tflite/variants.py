"""The kinds of .tflite file that are made of a model, and how far each may be from Keras.

A variant is a precision, with or without sparse storage, and a type of inputs and outputs:

  float32               weights and arithmetic of the model
  float16               float16 weights, float32 arithmetic
  int8_weights          int8 weights, float32 arithmetic
  dynamic_int8          int8 weights; activations quantised for each multiplication, anew each time
  int8                  int8 weights and activations, by ranges seen on calibration samples
  int16x8               int16 activations, int8 weights, likewise

  ..._sparse            kernels are stored without their zeros where that is smaller
  ..._int_io            takes and returns int8 (int16) as inside, instead of float32
  ..._uint8_io          of int8: takes and returns uint8, as cameras do
"""

from typing import NamedTuple


class Variant(NamedTuple):
    """How one kind of file is converted and judged.

    Attributes:
      weights: type of the stored weights: "float32", "float16" or "int8".
      arithmetic: "float32", "dynamic", "int8" or "int16": of the multiplications.
      tolerance: largest relative error against Keras (see `parity.compare`).
      sparse: whether kernels are stored without their zeros where that is smaller.
      io: type of inputs and outputs: "float32", "int8", "uint8" or "int16".
    """

    weights: str
    arithmetic: str
    tolerance: float
    sparse: bool = False
    io: str = "float32"

    @property
    def calibrated(self) -> bool:
        """Whether activations are integers, by ranges seen on calibration samples."""
        return self.arithmetic in ("int8", "int16")


# Tolerances are fractions of the spread of Keras' own outputs. Rounding leaves about 1e-6 in
# float32, 1e-3 in float16, 0.01 with int8 weights and 0.01 to 0.3 with int8 activations,
# depending on the net. Outputs that have nothing to do with Keras' score about 1.1, zeros 0.8,
# and the known faults of sparse files more than 1, up to thousands, or NaN.
PRECISIONS = {
    "float32": Variant("float32", "float32", tolerance=1e-3),
    "float16": Variant("float16", "float32", tolerance=2e-2),
    "int8_weights": Variant("int8", "float32", tolerance=0.25),
    "dynamic_int8": Variant("int8", "dynamic", tolerance=0.25),
    "int8": Variant("int8", "int8", tolerance=0.5),
    "int16x8": Variant("int8", "int16", tolerance=0.25),
}
_IO = {
    "int8": {"": "float32", "_int_io": "int8", "_uint8_io": "uint8"},
    "int16x8": {"": "float32", "_int_io": "int16"},
}

VARIANTS = {
    f"{name}{'_sparse' * sparse}{ending}": kind._replace(sparse=sparse, io=io)
    for name, kind in PRECISIONS.items()
    for sparse in (False, True)
    for ending, io in _IO.get(name, {"": "float32"}).items()
}

# What is made unless something else is asked for: the smallest and the fastest on most devices,
# and what they are compared with.
DEFAULT = (
    *("float32", "float16", "dynamic_int8", "int8"),
    *("float32_sparse", "float16_sparse", "int8_weights_sparse", "int8_sparse"),
)
