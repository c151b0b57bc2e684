"""Real networks: with channels zeroed and without them they compute the same."""

import time

import keras
import pytest

import tfprune
from tests import surgeons
from tfprune import surgery
from tfprune.graph.channels import Channels

NORMAL = [
    "VGG16",
    "ResNet50",
    "ResNet50V2",
    "MobileNet",
    "MobileNetV2",
    "MobileNetV3Small",
    "EfficientNetB0",
    "EfficientNetV2B0",
    "DenseNet121",
    "Xception",
    "ConvNeXtTiny",
]
ALL = [name for name in dir(keras.applications) if name[0].isupper()]
# The smallest inputs that Keras allows, or that leave a pixel.
SIZES = {"InceptionV3": 75, "InceptionResNetV2": 75, "Xception": 71}
TRAINED = [
    "cifar10_resnet/resnet.h5",
    "mlperf_tiny/pretrainedResnet.h5",
    "mlperf_tiny/keyword_spotting/str_ww_ref_model.h5",
]


def application(name):
    size = SIZES.get(name, 32)
    return getattr(keras.applications, name)(
        weights=None, input_shape=(size, size, 3), classes=10, classifier_activation=None
    )


def shrinks(name, draws):
    model = application(name)
    x = surgeons.inputs(model, scale=64 if "Efficient" in name else 1)
    _, groups, small = surgeons.shrinks(model, x=x, draws=draws)
    frozen = {g.frozen for g in groups.values() if g.frozen}
    if "ConvNeXt" not in name:  # of all these, only this one normalises over channels
        assert frozen == {"they are the model's output"}
    assert small.count_params() < 0.8 * model.count_params()


@pytest.mark.parametrize("name", NORMAL)
def test_applications(name):
    shrinks(name, [surgeons.BOTH])


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_all_applications(name):
    shrinks(name, [surgeons.READ])


@pytest.mark.parametrize("path", TRAINED)
def test_trained(shared, path):
    model = tfprune.load_model(shared / "models" / path)
    surgeons.shrinks(model, random=False)


def duration(function, *args):
    """Returns the shorter time of two calls, and the result of the last."""
    times = []
    for _ in range(2):
        start = time.process_time()
        result = function(*args)
        times.append(time.process_time() - start)
    return min(times), result


def test_removal_is_no_slower_than_building():
    model = application("MobileNetV2")
    building, _ = duration(application, "MobileNetV2")
    following, channels = duration(Channels, model)
    grouping, _ = duration(channels.groups)
    removing, _ = duration(surgery.remove, model, channels, surgeons.choose(channels))
    assert following + grouping + removing < building + 2
