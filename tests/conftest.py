import os
import pathlib

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")


@pytest.fixture(scope="session")
def shared():
    """The folder of real data sets and trained models, which is not part of the repository."""
    default = pathlib.Path(__file__).resolve().parents[2] / "shared"
    folder = pathlib.Path(os.environ.get("TFPRUNE_SHARED", default))
    if not (folder / "models").is_dir():
        pytest.skip("needs the folder of real data and models: set TFPRUNE_SHARED to it")
    return folder


@pytest.fixture(scope="session")
def arm64():
    """The emulated Arm processor, whose sandbox is built by the first test that wants it."""
    return _answering("arm64")


@pytest.fixture(scope="session")
def nehalem():
    """The emulated x86 processor without AVX."""
    return _answering("nehalem")


def _answering(spec):
    from tfprune.measurement import devices

    device = devices.get(spec)
    try:
        device.check()
    except OSError as error:
        pytest.skip(str(error))
    return device


def pytest_configure():
    """Sets up two virtual CPUs, for tests of several replicas: before TensorFlow starts."""
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)


@pytest.fixture(autouse=True)
def _seeded():
    import keras

    keras.utils.set_random_seed(0)
