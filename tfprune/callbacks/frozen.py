"""What does not train is not pruned by training: nothing would make up for what is taken."""

import dataclasses
import glob
import logging

import keras

from tfprune.graph import kernels as k
from tfprune.planning import Recipe

log = logging.getLogger("tfprune")


def spared(recipe: Recipe, model: keras.Model) -> Recipe:
    """Returns the recipe with the kernels of `model` protected that don't train.

    Raises:
      ValueError: if none trains.
    """
    kernels, _ = k.find(model)
    frozen = [kernel.name for kernel in kernels if not kernel.variable.trainable]
    if not frozen:
        return recipe
    if len(frozen) == len(kernels):
        raise ValueError(
            f"model {model.name!r} is frozen: none of its {len(kernels)} kernels trains, so that "
            "nothing would make up for what is pruned; set trainable = True on the layers to "
            "prune and compile it again, or prune without training by tfprune.prune"
        )
    log.info("frozen, and so left dense: %s", ", ".join(frozen))
    return dataclasses.replace(recipe, protect=(*recipe.protect, *map(glob.escape, frozen)))
