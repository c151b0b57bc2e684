"""The command line, as a user runs it: in a process of its own."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
from absl.testing import flagsaver

from pipelines import flags as pipeline_flags
from pipelines import prune
from pipelines import run as runs
from tfprune.tflite.variants import DEFAULT, VARIANTS

ROOT = pathlib.Path(__file__).resolve().parents[2]
QUICK = [
    "--train_epochs=2",
    "--epochs=2",
    "--variants=float32,int8",
    "--baseline_variants=float32",
    "--runs=5",
    "--verify_samples=50",
]


def command(*args, module="prune"):
    return [sys.executable, "-m", f"pipelines.{module}", *map(str, args)]


def run(*args, module="prune", **settings):
    return subprocess.run(
        command(*args, module=module),
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        **settings,
    )


def killed(*args, at, times=1):
    """Runs a command, and kills it when it prints a line that begins so, for the n-th time."""
    with subprocess.Popen(
        command(*args),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    ) as process:
        for line in process.stdout:
            times -= line.startswith(at)
            if not times:
                process.send_signal(signal.SIGKILL)
                break


def together(*commands, module="prune"):
    """Returns how these commands end, each as from `run`; they are run in one process."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.pipelines.together", module],
        cwd=ROOT,
        check=True,
        input=json.dumps([list(map(str, words)) for words in commands]),
        stdout=subprocess.PIPE,
        text=True,
    )
    ends = json.loads(done.stdout.splitlines()[-1])
    pairs = zip(commands, ends, strict=True)
    return [subprocess.CompletedProcess(words, *end) for words, end in pairs]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "one"
    done = run(f"--output_dir={folder}", *QUICK)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_what_a_run_leaves(finished):
    folder, out = finished
    record = json.loads((folder / "record.json").read_text())
    assert record["schema"] == 1
    assert record["sparsity"] == pytest.approx(0.8, abs=1e-4)
    assert record["compression_ratio"] == record["base_params"] / record["pruned_nonzero_params"]
    assert record["flag_target"] == "sparsity:0.8"
    assert record["env_keras"] == keras.__version__
    assert [row["sparsity"] for row in record["history"]][-1] == record["sparsity"]
    updates, churn = record["pruning_history"], record["mask_churn"]
    assert updates[-1]["reached"] == pytest.approx(updates[-1]["scheduled"], abs=1e-4)
    assert updates[-1]["reached"] == record["sparsity"]
    assert sum(row["pruned"] - row["regrown"] for row in churn) == pytest.approx(
        record["sparsity"], abs=1e-6
    )
    assert list((folder / "logs/finetune/pruning").glob("events*"))
    for key in ("top1", "top5", "loss", "params", "nonzero_params", "macs"):
        assert record[f"base_{key}"] >= 0
        assert record[f"pruned_{key}"] >= 0
    for row in record["tflite"]:
        assert row["status"] == "ok", row
        file = folder / row["file"]
        assert file.stat().st_size == row["bytes"]
        assert row["latency_ms_median"] > 0
    assert record["recommended"]["file"] in out
    assert (folder / "report.html").stat().st_size > 10_000
    assert list((folder / "logs/finetune").rglob("events*"))
    model = keras.saving.load_model(folder / "model.keras")
    kernels = [w.numpy() for w in model.weights if w.name == "kernel"]
    zeros = sum((x == 0).sum() for x in kernels) / sum(x.size for x in kernels)
    assert zeros == record["sparsity"]


def test_nothing_but_the_run_is_left(finished):
    names = {path.name for path in finished[0].iterdir()}
    assert names == {
        "baseline.keras",
        "flags.txt",
        "logs",
        "model.keras",
        "record.json",
        "report.html",
        "tflite",
    }


def test_flags_txt_reproduces_the_run_bit_for_bit(finished, tmp_path):
    folder, _ = finished
    done = run(f"--flagfile={folder}/flags.txt", f"--output_dir={tmp_path}/again")
    assert done.returncode == 0, done.stderr
    first, again = (
        keras.saving.load_model(path / "model.keras") for path in (folder, tmp_path / "again")
    )
    for a, b in zip(first.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    ids = [json.loads((p / "record.json").read_text()) for p in (folder, tmp_path / "again")]
    for key in ("run_id", "starting_weights_sha256", "pruned_top1"):
        assert ids[0][key] == ids[1][key]


def test_a_finished_run_shows_its_result_again(finished):
    folder, out = finished
    before = (folder / "record.json").read_bytes()
    start = time.monotonic()
    done = run(f"--output_dir={folder}", *QUICK)
    assert done.returncode == 0
    assert done.stdout.splitlines()[-5:] == out.splitlines()[-5:]
    assert time.monotonic() - start < 20
    assert (folder / "record.json").read_bytes() == before


def test_another_run_in_the_directory_is_an_error(finished):
    folder, _ = finished
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    done = run(f"--output_dir={folder}", *QUICK, "--target=sparsity:0.5")
    assert done.returncode == 1
    assert "holds another run" in done.stderr
    assert before == {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_killed_run_goes_on(finished, tmp_path):
    """Killed while fine-tuning, the same command ends with the same model, bit for bit."""
    args = [f"--output_dir={tmp_path / 'run'}", *QUICK]
    killed(*args, at="Epoch 2/2", times=2)
    assert (tmp_path / "run/baseline.keras").exists()
    assert not (tmp_path / "run/record.json").exists()
    done = run(*args, "--resume")
    assert done.returncode == 0, done.stderr
    assert "dense model: taken from" in done.stdout
    assert "goes on after epoch 1" in done.stdout
    assert "Epoch 1/2" not in done.stdout
    whole, again = (
        (keras.saving.load_model(path / "model.keras"), json.loads(record.read_text()))
        for path in (finished[0], tmp_path / "run")
        for record in [path / "record.json"]
    )
    for a, b in zip(whole[0].get_weights(), again[0].get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    for key in ("run_id", "history", "pruning_history", "mask_churn", "pruned_top1"):
        assert whole[1][key] == again[1][key]


def test_a_run_that_is_there_is_not_begun_anew(finished):
    (done,) = together([f"--output_dir={finished[0]}", *QUICK, "--noresume"])
    assert done.returncode == 1
    assert "holds a run with these flags" in done.stderr


def test_a_model_of_ones_own_is_pruned_at_once(tmp_path):
    """A .keras file on an .npz file, without fine-tuning, by blocks."""
    rng = np.random.default_rng(0)
    arrays = {
        f"{axis}_{split}": values
        for split in ("train", "test")
        for axis, values in (
            ("x", rng.integers(0, 256, (200, 12, 12, 3), np.uint8)),
            ("y", rng.integers(0, 3, 200)),
        )
    }
    np.savez(tmp_path / "mine.npz", **arrays)
    model = keras.Sequential(
        [
            keras.Input((12, 12, 3)),
            keras.layers.Conv2D(8, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(3),  # logits
        ]
    )
    model.save(tmp_path / "mine.keras")
    done = run(
        f"--output_dir={tmp_path}/run",
        f"--model={tmp_path}/mine.keras",
        f"--dataset={tmp_path}/mine.npz",
        "--epochs=0",
        "--granularity=block(4, 1)",
        "--target=params:0.3",
        "--allocation=uniform_plus",
        "--protect=conv*",
        "--variants=float32,int8",
        "--runs=5",
    )
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "run/record.json").read_text())
    assert abs(record["pruned_nonzero_params"] - 0.3 * record["base_params"]) <= 2
    assert [entry["reason"] for entry in record["skipped"]] == ["protected"]
    assert "base_top5" not in record


WRONG = {
    ("--dataset=digts",): "digits",
    ("--model=digit_cnn",): "Did you mean digits_cnn",
    ("--criterion=magnitud",): "Did you mean magnitude",
    ("--schedule=linear",): "unknown schedule",
    ("--schedule=iterative(0)",): "1 or more",
    ("--allocation=globl",): "Did you mean global",
    ("--granularity=blocks",): "Did you mean block",
    ("--target=0.8",): "reads like",
    ("--target=sparsity:1.0",): "up to, but not, 1",
    ("--target=sparsity:0.9999", "--train_epochs=0"): "nearest that can is",
    ("--protect=nothing*", "--train_epochs=0"): "layer to protect",
    ("--variants=float23",): "they are some of",
    ("--begin=soon",): "no moment",
    ("--model=absent.keras",): "no model file absent.keras",
    ("--filters_of=conv9", "--train_epochs=0"): "Did you mean conv",
    ("--granularity=channel", "--target=redundant", "--train_epochs=0"): "finds nothing redundant",
    ("--train_learning_rate=1e30", "--train_epochs=1"): "lower the learning",
    ("stray",): "unexpected argument",
    ("--resume",): "holds no run with these flags",
    ("--method=rigle",): "Did you mean rigl",
    ("--method=str", "--allocation=uniform"): "learns how layers share",
    ("--method=rigl", "--epochs=0"): "it needs --epochs above 0",
    ("--distill=absent.keras", "--train_epochs=0"): "no model file absent.keras",
}
# What is wrong with these is known before anything is trained.
WRONG_ABOUT_CHANNELS = {
    ("--steps=2",): "--steps needs --granularity=channel",
    ("--sparsify=soft",): "--sparsify needs --granularity=channel",
    ("--target=latency:4ms",): "needs granularity='channel'",
    ("--granularity=channel", "--target=latency:4"): "a share up to 1, or a time such as 4ms",
    ("--granularity=channel(join='no')",): "join is one of",
    ("--granularity=channel", "--target=bytes:200k", "--steps=2"): "give a share",
    ("--granularity=channel", "--round_to=0"): "round_to",
    ("--granularity=channel", "--method=rigl"): "another granularity than channel",
    ("--correction=merge",): "granularity='channel'",
    ("--target=redundant",): "at each step",
    (
        "--granularity=channel",
        "--target=redundant",
        "--sparsify=soft",
    ): "can't be done at each step",
    ("--cluster_weights=1",): "cluster_weights",
    ("--cluster_initialisation=linar",): "linear",
}


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """{flags: (the directory of a command with these wrong flags, how it ended)}."""
    folders = {words: tmp_path_factory.mktemp("wrong") / "run" for words in WRONG}
    folders |= {words: tmp_path_factory.mktemp("wrong") / "run" for words in WRONG_ABOUT_CHANNELS}
    ends = together(*([f"--output_dir={path}", *words] for words, path in folders.items()))
    return {words: (path, end) for (words, path), end in zip(folders.items(), ends, strict=True)}


@pytest.mark.parametrize("flags", WRONG, ids=" ".join)
def test_bad_input_is_one_clear_line(stopped, flags):
    folder, done = stopped[flags]
    assert done.returncode != 0
    assert WRONG[flags] in done.stderr
    assert "Traceback" not in done.stderr
    assert not (folder / "record.json").exists()


@pytest.mark.parametrize("flags", WRONG_ABOUT_CHANNELS, ids=" ".join)
def test_wrong_words_about_channels(stopped, flags):
    folder, done = stopped[flags]
    assert done.returncode in (1, 2)
    assert WRONG_ABOUT_CHANNELS[flags] in done.stderr
    assert not (folder / "baseline.keras").exists()


def test_damaged_files_are_named(tmp_path):
    for name in ("model.keras", "data.npz"):
        (tmp_path / name).write_bytes(b"PK\x03\x04 not really")
    model, data = together(
        [f"--output_dir={tmp_path}/a", f"--model={tmp_path}/model.keras"],
        [f"--output_dir={tmp_path}/b", f"--dataset={tmp_path}/data.npz"],
    )
    assert model.returncode == data.returncode == 1
    assert "model.keras" in model.stderr
    assert "data.npz" in data.stderr


def test_a_directory_that_holds_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    done = run(f"--output_dir={tmp_path}")
    assert done.returncode == 1
    assert "holds other files" in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_wrong_word_can_be_mended_in_the_same_directory(tmp_path):
    flags = [f"--output_dir={tmp_path}/run", "--train_epochs=0"]
    wrong, right = together([*flags, "--dataset=digts"], flags, module="train")
    assert (wrong.returncode, right.returncode) == (1, 0)


def test_no_room_is_an_error_that_names_the_directory():
    if not os.path.exists("/dev/full"):
        pytest.skip("needs a place that can't be written to")
    done = run("--output_dir=/dev/full/run")
    assert done.returncode == 1
    assert "/dev/full" in done.stderr


def test_train_alone(tmp_path):
    done = run(f"--output_dir={tmp_path}/run", "--train_epochs=1", module="train")
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "run/record.json").read_text())
    assert record["base_params"] == 40_090
    keras.saving.load_model(tmp_path / "run/baseline.keras")


def test_help_is_fast_and_names_every_method():
    from tfprune import registry, schedules, targets, zoo

    start = time.monotonic()
    done = run("--help")
    assert time.monotonic() - start < 3
    packages = ("criteria", "granularity", "allocation")
    names = [n for p in packages for n in registry.names(f"tfprune.{p}")]
    names += [*schedules.names(), *targets.KINDS, targets.REDUNDANT, *zoo.names()]
    for name in names:
        assert name in done.stdout
    code = "import sys, pipelines.prune; assert not {'tensorflow', 'keras'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.fixture
def channels(finished):
    """Flags that remove channels from a model that is trained already."""
    model = [f"--model={finished[0]}/baseline.keras", "--train_epochs=0"]
    return [*QUICK, *model, "--granularity=channel", "--target=macs:0.5", "--criterion=l1"]


@pytest.mark.slow
def test_channels_are_removed_in_steps_and_then_trained(channels, tmp_path):
    words = [*channels, "--steps=2", "--sparsify=growing_l2", "--sparsify_epochs=1"]
    words += [f"--output_dir={tmp_path}/run", "--round_to=4"]
    killed(*words, at="step 2:")
    assert not (tmp_path / "run/model.keras").exists()
    done = run(*words)
    assert done.returncode == 0, done.stderr
    # What was done before it was killed is not done again.
    assert "step 1: taken from" in done.stdout
    assert "sparsified model: taken from" in done.stdout
    record = json.loads((tmp_path / "run/record.json").read_text())
    assert record["pruned_macs"] / record["base_macs"] == pytest.approx(0.5, abs=0.08)
    assert record["theoretical_speedup"] == record["base_macs"] / record["pruned_macs"]
    assert [row["epoch"] for row in record["history"]] == [0, 1]
    lost = [row for row in record["channels"] if row["kept"] < row["channels"]]
    assert lost
    assert all(row["kept"] % 4 == 0 and not row["frozen"] for row in lost)
    model = keras.saving.load_model(tmp_path / "run/model.keras")
    assert sum(w.size for w in model.get_weights()) < 0.8 * record["base_params"]
    files = {(row["model"], row["variant"]): row for row in record["tflite"]}
    assert {row["status"] for row in files.values()} == {"ok"}
    assert files["pruned", "float32"]["bytes"] < 0.8 * files["baseline", "float32"]["bytes"]
    assert "% zeros" not in done.stdout


@pytest.mark.slow
def test_soft_pruning_comes_before_the_channels_go(channels, tmp_path):
    words = [*channels, "--sparsify=soft", "--sparsify_epochs=1", "--epochs=0"]
    done = run(f"--output_dir={tmp_path}/run", *words, "--variants=float32")
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "run/record.json").read_text())
    assert record["pruned_macs"] / record["base_macs"] == pytest.approx(0.5, abs=0.03)
    assert record["history"] == []


@pytest.mark.slow
def test_clusters_become_one_channel_and_weights_share_their_values(channels, tmp_path):
    words = [*channels, "--criterion=kmeans", "--correction=merge", "--allocation=uniform"]
    words += ["--sparsify=centripetal", "--sparsify_epochs=1", "--epochs=1"]
    words += ["--cluster_weights=16", "--cluster_epochs=1", "--filters_of=conv2"]
    words += [f"--output_dir={tmp_path}/run"]
    killed(*words, at="share:")
    done = run(*words)
    assert done.returncode == 0, done.stderr
    assert "before weights are shared: taken from" in done.stdout
    record = json.loads((tmp_path / "run/record.json").read_text())
    assert record["pruned_macs"] / record["base_macs"] == pytest.approx(0.5, abs=0.05)
    kept = {row["name"]: row["kept"] for row in record["channels"]}
    assert record["filters"]["layer"] == "conv2"
    assert sum(record["filters"]["kept"]) == kept["conv2"]
    assert "Filters" in (tmp_path / "run/report.html").read_text()
    model = keras.saving.load_model(tmp_path / "run/model.keras")
    kernels = [w.numpy() for w in model.weights if w.name == "kernel"]
    assert max(len(np.unique(x)) for x in kernels) <= 16
    assert {row["status"] for row in record["tflite"]} == {"ok"}


@pytest.mark.slow
def test_a_threshold_says_how_many_filters_go(finished, tmp_path):
    words = [*QUICK, f"--model={finished[0]}/baseline.keras", "--epochs=0"]
    words += ["--granularity=filter", "--criterion=kmeans(clusters=0.5)", "--target=redundant"]
    done = run(f"--output_dir={tmp_path}/run", *words)
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "run/record.json").read_text())
    assert record["sparsity"] == pytest.approx(0.5, abs=0.02)
    filters = record["filters"]["kept"]
    assert sum(filters) == len(filters) // 2


def test_channels_are_explained_without_a_directory():
    done = run("--explain", "--model=resnet8")
    assert done.returncode == 0, done.stderr
    assert "they are the model's output" in done.stdout
    assert "channels" in done.stdout.splitlines()[0]


@flagsaver.flagsaver()
def variants(*words):
    """Returns the variants that flags ask for, and the run."""
    prune.FLAGS(["prune", *map(str, words)])
    run = runs.Run(prune.FLAGS.output_dir, prune.FLAGS.get_key_flags_for_module(pipeline_flags))
    return prune._variants(), run


@pytest.mark.parametrize("granularity", ["weight", "channel"])
def test_flags_txt_asks_for_the_same_files(granularity, tmp_path):
    """Where channels go there are no zeros to leave out: by default none of the sparse is made."""
    words = [f"--granularity={granularity}", f"--output_dir={tmp_path}/run"]
    chosen, run = variants(*words)
    expected = [x for x in DEFAULT if granularity == "weight" or not VARIANTS[x].sparse]
    assert chosen == expected
    flagfile = run.path("flags.txt")
    words = [f"--flagfile={flagfile}", f"--output_dir={tmp_path}/again"]
    assert variants(*words)[0] == expected
    words = [*words, f"--output_dir={tmp_path}/own", "--variants=int8,float32_sparse"]
    assert variants(*words)[0] == ["int8", "float32_sparse"]
