"""Training on several machines: a strategy that `fit` works under, and word of a machine's loss."""

import contextlib
import re
from collections.abc import Iterator

import tensorflow as tf

# What TensorFlow raises in the workers that are left.
_ERRORS = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
)


class MultiWorker(tf.distribute.MultiWorkerMirroredStrategy):
    """A MultiWorkerMirroredStrategy under which `fit` of Keras 3 works.

    Keras takes the mean of a whole batch, a structure, over the workers, and that of scalars over
    their axis 0; TensorFlow's strategy refuses both (keras-team/keras issue 20585). This one takes
    a structure apart, and scalars as they are. Arguments are those of TensorFlow's.

    Example, in each of the processes that TF_CONFIG names:
      >>> strategy = tfprune.MultiWorker()
      >>> with strategy.scope():
      ...     model = build()
      ...     model.compile("sgd", "sparse_categorical_crossentropy")
      >>> with strategy.watched("runs/checkpoints"):
      ...     model.fit(data, epochs=5, callbacks=[tfprune.Pruner("sparsity:0.9")])
    """

    def reduce(self, reduce_op: object, value: object, axis: int | None = None) -> object:
        """Returns `value`, a structure of tensors, reduced over all replicas."""
        one = super().reduce

        def reduced(part: object) -> tf.Tensor:
            rank = self.experimental_local_results(part)[0].shape.rank
            return one(reduce_op, part, axis=axis if rank else None)

        return tf.nest.map_structure(reduced, value)

    @contextlib.contextmanager
    def watched(self, checkpoints: str | None = None) -> Iterator[None]:
        """Says so when a training ends since another worker is gone.

        TensorFlow notices within half a minute that a worker's heartbeats have stopped, and breaks
        off whatever the others wait for; here its error is made one that can be read. Where the
        first worker is gone, which watches over the others, TensorFlow may end their processes
        before that, with the reason in their logs.

        Args:
          checkpoints: where the training's checkpoints are, if it has any.

        Raises:
          ConnectionError: when a worker is gone.
        """
        try:
            yield
        except _ERRORS as error:
            message = str(error)
            if "ollective" not in message and "/task:" not in message:
                raise
            raise ConnectionError(self._loss(message, checkpoints)) from error

    def _loss(self, message: str, checkpoints: str | None) -> str:
        hosts = self.cluster_resolver.cluster_spec().as_dict()["worker"]
        gone = sorted({int(i) for i in re.findall(r"/job:worker/replica:0/task:(\d+)", message)})
        gone = [i for i in gone if i != self.cluster_resolver.task_id]
        who = ", ".join(f"worker {i} ({hosts[i]})" for i in gone) or "another worker"
        kept = (
            f"weights and masks are in the last checkpoint in {checkpoints}: start all workers "
            "again with the same command, which goes on from there"
            if checkpoints
            else "there are no checkpoints: start all workers again, better with "
            "tfprune.Checkpoint among the callbacks"
        )
        return f"{who} is gone, and training has stopped; {kept}"
