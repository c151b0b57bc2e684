"""Trainings in a process of their own, of which tests compare what came out.

  python -m tests.callbacks.replicas FILE STRATEGIES CASES

STRATEGIES are "one", "mirrored2", "mirrored4" or "workers", with commas between. CASES is JSON,
{name: words of Pruner}, or "lose". What goes into FILE, an .npz, is called
`strategy/case/mask/replica/variable` and `strategy/case/weight/replica/variable`.
"""

import json
import os
import signal
import sys

import numpy as np

BATCH, EPOCHS = 16, 5


def _strategy(name):
    import tensorflow as tf

    from tfprune.callbacks import workers

    if name.startswith("mirrored"):
        cpus = [f"CPU:{i}" for i in range(int(name.removeprefix("mirrored")))]
        return tf.distribute.MirroredStrategy(cpus)
    return workers.MultiWorker() if name == "workers" else tf.distribute.get_strategy()


def _model(strategy):
    import keras

    with strategy.scope():
        model = keras.Sequential(
            [
                keras.Input((16,)),
                keras.layers.Dense(24, activation="relu"),
                keras.layers.Dense(4, activation="softmax"),
            ]
        )
        model.compile(keras.optimizers.SGD(0.05), "sparse_categorical_crossentropy")
    return model


def data():
    """Returns inputs and labels that something can be learned from."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 16)).astype("float32")
    return x, (x @ rng.normal(size=(16, 4))).argmax(axis=1)


def _fit(strategy, words, weights):
    """Returns {kind/replica/variable: array} after a training."""
    import keras
    import tensorflow as tf

    import tfprune

    keras.utils.set_random_seed(0)
    model = _model(strategy)
    model.set_weights(weights)
    x, y = data()
    if words.pop("calibrated", False):
        words["data"] = x, y
    batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(BATCH)
    model.fit(batches, epochs=EPOCHS, verbose=0, callbacks=[tfprune.Pruner(**words)])
    found = {}
    for index, variable in enumerate(model.weights):
        held = {"weight": variable}
        if variable.constraint is not None:
            held["mask"] = variable.constraint.mask
        for kind, kept in held.items():
            for replica, value in enumerate(strategy.experimental_local_results(kept.value)):
                found[f"{kind}/{replica}/{index}"] = value.numpy()
    return found


def _die(step):
    """Returns a callback that ends this process as a crash would."""
    import keras

    class Die(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if int(self.model.optimizer.iterations.numpy()) == step:
                os.kill(os.getpid(), signal.SIGKILL)

    return Die()


def _lose(strategy):
    """Has the second worker die in the middle of a training, and prints what the first one says."""
    import tensorflow as tf

    import tfprune

    task = strategy.cluster_resolver.task_id
    model = _model(strategy)
    callbacks = [tfprune.Pruner("sparsity:0.5"), *([_die(6)] if task else [])]
    batches = tf.data.Dataset.from_tensor_slices(data()).batch(BATCH)
    try:
        with strategy.watched("the/checkpoints"):
            model.fit(batches, epochs=EPOCHS, verbose=0, callbacks=callbacks)
    except ConnectionError as error:
        print(error, flush=True)
        os._exit(3)  # TensorFlow would wait for the other when Python ends


def main(file, names, cases):
    if cases == "lose":
        _lose(_strategy(names))
        return
    if names != "workers":
        import tensorflow as tf

        cpu = tf.config.list_physical_devices("CPU")[0]
        four = [tf.config.LogicalDeviceConfiguration()] * 4
        tf.config.set_logical_device_configuration(cpu, four)
    rng = np.random.default_rng(1)
    shapes = [(16, 24), (24,), (24, 4), (4,)]
    weights = [rng.normal(0, 0.3, shape) for shape in shapes]
    found = {}
    for name in names.split(","):
        strategy = _strategy(name)
        for case, words in json.loads(cases).items():
            values = _fit(strategy, dict(words), weights)
            found |= {f"{name}/{case}/{key}": value for key, value in values.items()}
    np.savez(file, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
