"""The kinds of .tflite file that are made of a model, and how far each may be from Keras."""

from typing import NamedTuple


class Variant(NamedTuple):
    """How one kind of file is converted and judged.

    Attributes:
      weights: type of the stored weights: "float32", "float16" or "int8".
      calibrated: whether activations are int8 too, by ranges seen on calibration samples.
      sparse: whether weights of at least 30 % zeros are stored without them.
      tolerance: largest relative error against Keras (see `parity.compare`).
    """

    weights: str
    calibrated: bool
    sparse: bool
    tolerance: float


# Tolerances are fractions of the spread of Keras' own outputs. Rounding leaves about 1e-6 in
# float32, 1e-3 in float16, 0.01 with int8 weights and 0.01 to 0.3 with int8 activations,
# depending on the net. Outputs that have nothing to do with Keras' score about 1.1, zeros 0.8,
# and the known faults of sparse files more than 1, up to thousands, or NaN.
VARIANTS = {
    "float32": Variant("float32", calibrated=False, sparse=False, tolerance=1e-3),
    "float16": Variant("float16", calibrated=False, sparse=False, tolerance=2e-2),
    # int8 weights, float activations
    "dynamic_int8": Variant("int8", calibrated=False, sparse=False, tolerance=0.25),
    # int8 inside, float32 in and out: an application feeds every variant alike
    "int8": Variant("int8", calibrated=True, sparse=False, tolerance=0.5),
    "float32_sparse": Variant("float32", calibrated=False, sparse=True, tolerance=1e-3),
    "float16_sparse": Variant("float16", calibrated=False, sparse=True, tolerance=2e-2),
}
