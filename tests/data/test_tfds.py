"""A small TFDS data set of awkward shape: images of several sizes, test labels hidden."""

import numpy as np
import pytest
import tensorflow_datasets as tfds

from tfprune import data

LABELS = {"train": [0, 1, 2] * 10, "validation": [2, 1, 0] * 2, "test": [-1] * 4}


class AwkwardPictures(tfds.core.GeneratorBasedBuilder):
    """Images of 6x5 and 8x9 pixels."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=(None, None, 3)),
                "label": tfds.features.ClassLabel(names=["ant", "bee", "cow"]),
                "id": tfds.features.Text(),
            }
        )
        return self.dataset_info_from_configs(
            features=features, supervised_keys=("image", "label"), disable_shuffling=True
        )

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in LABELS}

    def _generate_examples(self, split):
        for i, label in enumerate(LABELS[split]):
            image = np.full((6, 5, 3) if i % 2 else (8, 9, 3), 5 * i, np.uint8)
            yield i, {"image": image, "label": label, "id": str(i)}


class SoundsOnly(tfds.core.GeneratorBasedBuilder):
    """No images."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict({"sound": tfds.features.Text()})
        )

    def _split_generators(self, dl_manager):
        return {"train": iter([(0, {"sound": "moo"})])}

    def _generate_examples(self):
        yield from ()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    AwkwardPictures(data_dir=folder).download_and_prepare()
    SoundsOnly(data_dir=folder).download_and_prepare()
    return folder


def load(folder, **kwargs):
    return data.load("awkward_pictures", data_dir=folder, preprocess="raw", **kwargs)


def test_hidden_test_labels_make_validation_the_test_split(folder):
    splits = load(folder, image_size=4, validation=0.2)
    assert splits.sizes == {"train": 24, "validation": 6, "test": 6}
    assert splits.class_names == ("ant", "bee", "cow")
    x, y = next(splits.test.as_numpy_iterator())
    np.testing.assert_array_equal(y, LABELS["validation"])
    # Images of one value each: resizing leaves them so.
    np.testing.assert_array_equal(x, np.full((6, 4, 4, 3), 5.0) * np.arange(6).reshape(6, 1, 1, 1))


def test_several_sizes_need_image_size(folder):
    with pytest.raises(ValueError, match=r"awkward_pictures have several sizes.*image_size"):
        load(folder)


def test_other_data_sets_are_refused(folder):
    with pytest.raises(ValueError, match=r"sounds_only is not a data set of images .* sound"):
        data.load("sounds_only", data_dir=folder)
