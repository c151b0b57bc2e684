"""Which batch normalisation follows which kernel."""

import keras

from tfprune.graph import kernels as k
from tfprune.graph import trace as tracing


def following(
    model: keras.Model, kernels: list[k.Kernel]
) -> dict[str, keras.layers.BatchNormalization]:
    """Returns {kernel name: the batch normalisation that reads its layer's output directly}.

    Of a layer with two kernels, only the last one's outputs are normalised.
    """
    calls = tracing.trace(model)
    normalised = {
        id(call.inputs[0]): call.layer
        for call in calls
        if isinstance(call.layer, keras.layers.BatchNormalization)
    }
    after = {
        id(call.layer): normalised[id(call.outputs[0])]
        for call in calls
        if call.outputs and id(call.outputs[0]) in normalised
    }
    last = {id(kernel.layer): kernel for kernel in kernels}
    return {kernel.name: after[key] for key, kernel in last.items() if key in after}
