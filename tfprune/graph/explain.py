"""`explain`: which channels of a model go together, what they carry, and what can't go."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import keras

from tfprune.graph import kernels as k
from tfprune.graph import macs
from tfprune.graph.channels import Channels, Group

if TYPE_CHECKING:
    import pandas as pd


def explain(model: keras.Model) -> "pd.DataFrame":
    """Returns a table of a model's groups of coupled channels, in the order they are made.

    Columns:
      group: the layer that makes the channels first.
      channels: how many there are.
      makes, reads: names of the layers that make or change them, and that read them.
      params, macs: what all the group's slices carry. A weight between two groups counts in both.
      frozen: why none of them can be removed, or an empty string.

    Raises:
      ValueError: for a model that is not built, is subclassed, leaves its input size open, or has
        a layer of data_format channels_first.
    """
    import pandas as pd

    channels = Channels(model)
    kernels, _ = k.find(model)
    positions = macs.positions(model, kernels)
    uses = {id(x.variable): positions[x.name] for x in kernels}
    counted = {id(w) for w in k.counted(model)}
    rows = []
    for group in channels.groups():
        params = multiplied = 0
        for variable, share in _shares(group):
            size = round(math.prod(variable.shape) * share)
            params += size * (id(variable) in counted)
            multiplied += size * uses.get(id(variable), 0)
        readers = {m.slices.layer.name: None for m in group.members if m.slices.role == "in"}
        rows.append(
            {
                "group": group.name,
                "channels": len(group),
                "makes": ", ".join(layer.name for layer in group.layers),
                "reads": ", ".join(readers),
                "params": params,
                "macs": multiplied,
                "frozen": group.frozen,
            }
        )
    return pd.DataFrame(rows)


def _shares(group: Group) -> Iterator[tuple[keras.Variable, float]]:
    """Yields each variable that carries the group's channels, and which share of it they are."""
    rest: dict[int, tuple[keras.Variable, float]] = {}
    for member in group.members:
        variable, axis = member.slices.variable, member.slices.axis
        _, others = rest.get(id(variable), (variable, 1.0))
        # A recurrent kernel has the same channels along two axes.
        rest[id(variable)] = variable, others * (1 - len(member.positions) / variable.shape[axis])
    for variable, others in rest.values():
        yield variable, 1 - others
