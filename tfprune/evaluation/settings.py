"""What a trial is: everything that its result depends on, and the hash that it goes by."""

import dataclasses
import functools
import hashlib
import json
import os
import pathlib

from tfprune.evaluation import methods
from tfprune.evaluation.records import SCHEMA
from tfprune.zoo import FILE_ENDINGS


@dataclasses.dataclass(frozen=True)
class Pair:
    """A network, what it is trained and judged on, and how it was trained before it is pruned.

    Attributes:
      model, dataset, data_dir, preprocess, augment, image_size, batch_size: as in `tfprune.zoo`
        and `tfprune.data`.
      train_epochs, train_learning_rate: of the dense network's training; no epochs for a file.
      optimizer: of all training.
    """

    model: str
    dataset: str
    data_dir: str | None = None
    preprocess: str = "unit"
    augment: str = "none"
    image_size: int | None = None
    batch_size: int = 64
    train_epochs: int = 30
    train_learning_rate: float = 2e-3
    optimizer: str = "adam"

    def __str__(self) -> str:
        return f"{self.model_name} on {self.dataset_name}"

    @property
    def model_name(self) -> str:
        """What people call the model: of a file, its name."""
        return pathlib.PurePath(self.model).name

    @property
    def dataset_name(self) -> str:
        """What people call the data set: of a file, its name."""
        return pathlib.PurePath(self.dataset).name

    @property
    def from_file(self) -> bool:
        """Whether the dense network is there already."""
        return self.model.lower().endswith(FILE_ENDINGS)

    @functools.cached_property
    def id(self) -> str:
        """Hash of all that decides the dense network's weights."""
        said = dataclasses.asdict(self)
        del said["data_dir"]  # where the data are is no part of what they are
        said |= {"model": _content(self.model), "dataset": _content(self.dataset)}
        if self.from_file:
            del said["train_epochs"], said["train_learning_rate"]
        return _hash(said)


@dataclasses.dataclass(frozen=True)
class Trial:
    """One pruning of one network: a point of a grid.

    Attributes:
      protocol: the name under which it is reported.
      pair: the network and its data.
      method: how it is pruned.
      control: whether the protocol, and not the user, asks for it.
      granularity: what is pruned together.
      axis, point: "compression" or "macs", and by which factor.
      seed: of the order of examples, random scores, initial weights of a network from scratch.
      epochs, learning_rate: of the fine-tuning; also in part of an epoch.
      scratch_epochs: of a network from scratch.
      calibration_samples: training examples from which scores are computed.
      protect: layers left dense; None stands for the classifier.
      variants: TFLite files to make.
      verify_samples: examples on which these are checked against Keras.
    """

    protocol: str
    pair: Pair
    method: methods.Method
    control: bool
    granularity: str
    axis: str
    point: float
    seed: int
    epochs: float
    learning_rate: float
    scratch_epochs: float
    calibration_samples: int
    protect: tuple[str, ...] | None
    variants: tuple[str, ...]
    verify_samples: int

    def __str__(self) -> str:
        return f"{self.pair}, {self.method.name}, {self.axis} {self.point:g}, seed {self.seed}"

    @property
    def target(self) -> str:
        """The operating point, as `tfprune.prune` takes it."""
        if self.axis == "macs":
            return f"macs:{1 / self.point!r}"
        return f"compression:{self.point!r}"

    @functools.cached_property
    def id(self) -> str:
        """Hash of all that decides the result, which is the name of its directory."""
        said = dataclasses.asdict(self)
        # The same trial may be a control of one grid and a method of another.
        del said["control"], said["protocol"]
        if self.method.special != methods.SCRATCH:
            del said["scratch_epochs"]
        return _hash(said | {"pair": self.pair.id, "schema": SCHEMA})

    @property
    def origin(self) -> "Trial | None":
        """The trial whose layer allocation this one replays."""
        if not self.method.replays:
            return None
        replayed = methods.parse(
            self.method.replays, granularity=self.granularity, allocation="uniform"
        )
        return dataclasses.replace(self, method=replayed, control=False)


@functools.cache
def _content(name: str) -> str:
    """Returns the hash of a file, so that it is what is in it that counts, or `name` itself."""
    if not os.path.isfile(name):
        return name
    with open(name, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _hash(said: dict[str, object]) -> str:
    text = json.dumps(said, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
