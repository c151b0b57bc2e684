import errno
import importlib.metadata
import json
import math
import os
import resource
import subprocess
import sys

import pytest

from tests.report import trials
from tfprune.evaluation import records


def run_of_prune(**changed):
    """A record as pipelines.prune writes it: no kind, its settings as flags."""
    measured = ("schema", "run_id", "dataset", "model", "base_top1", "pruned_top1", "layers")
    measured += ("compression_ratio", "theoretical_speedup", "env_cpu")
    record = {key: value for key, value in trials.trial(**changed).items() if key in measured}
    flags = {"criterion": "fisher", "allocation": "global", "correction": "own", "seed": 3}
    flags |= {"granularity": "weight", "epochs": 20, "protect": ["stem*"]}
    return record | {f"flag_{key}": value for key, value in flags.items()}


def written(path, record):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record))
    return path


def test_what_is_written_is_read_again(tmp_path):
    path = tmp_path / "record.json"
    for record in (trials.trial(), trials.failed(), run_of_prune(), trials.trial(extra={"a": [1]})):
        records.write(record, path)
        assert records.read(path) == record
    assert os.listdir(tmp_path) == ["record.json"]


def test_what_one_record_needs_no_other_needs(tmp_path):
    every = [
        trials.trial(),
        trials.failed(point=4),
        run_of_prune(),
        trials.failed(),
        trials.trial(),
    ]
    for number, record in enumerate(every):
        assert records.read(written(tmp_path / f"{number}.json", record)) == record


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"schema": 2}, "schema is 2, where 1 is needed: a newer tfprune"),
        ({"schema": 0}, "schema is 0, where 1 is needed: measure again"),
        ({"schema": True}, "schema is True"),
        ({"schema": None}, "schema is None"),
        ({"kind": "race"}, "kind is 'race'"),
        ({"method": None}, "method is missing"),
        ({"method": " "}, "method is ' ', where a word"),
        ({"status": ["ok"]}, "status is"),
        ({"pruned_top1": None}, "pruned_top1 is missing"),
        ({"pruned_top1": 87.3}, "pruned_top1 is 87.3, where a fraction from 0 to 1"),
        ({"pruned_top5": math.nan}, "pruned_top5 is nan"),
        ({"sparsity": True}, "sparsity is True"),
        ({"compression_ratio": 0}, "compression_ratio is 0, where a number above 0"),
        ({"point": 0.5}, "point is 0.5, where a number of 1 or more"),
        ({"seed": "0"}, "seed is '0', where a whole number"),
        ({"control": 0}, "control is 0, where true or false"),
        ({"axis": "bytes"}, "axis is 'bytes', where compression or macs"),
        ({"base_params": 10**400}, "base_params is too large"),
        ({"layers": [{"a": 1}, {"sparsity": math.inf}]}, "layers.1.sparsity is inf"),
        ({"layers": {"a": 1}}, "layers is {'a': 1}, where a list of objects"),
        ({"protected": [1]}, "protected is [1], where a list of names"),
        ({"tflite": [3]}, "tflite is [3]"),
        ({"optimizer": {}}, "optimizer is {}, where text"),
    ],
)
def test_a_wrong_field_is_named_with_its_file(tmp_path, changed, said):
    path = written(tmp_path / "record.json", trials.trial() | changed)
    with pytest.raises(ValueError) as raised:
        records.read(path)
    assert str(raised.value).startswith(f"{path}: {said}")


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (trials.failed() | {"error": None}, "error is missing"),
        (
            run_of_prune() | {"pruned_top1": None},
            "pruned_top1 is missing, which the record of a run",
        ),
        ({"schema": 1}, "run_id is missing"),
        ([], "is no JSON object"),
    ],
)
def test_each_kind_has_its_own_fields(tmp_path, record, said):
    with pytest.raises(ValueError, match=said):
        records.read(written(tmp_path / "record.json", record))


@pytest.mark.parametrize(
    "raw",
    [b"", b'{"schema": 1', b"\xff\xfe\x00", b"\x00" * 100, b"[" * 100_000, b'{"schema": 1e999}'],
    ids=["empty", "half", "other encoding", "zeros", "deep", "beyond any float"],
)
def test_damage_is_a_valueerror(tmp_path, raw):
    path = tmp_path / "record.json"
    path.write_bytes(raw)
    with pytest.raises(ValueError, match=r"record\.json: "):
        records.read(path)


def test_a_number_that_is_none_is_not_written(tmp_path):
    path = tmp_path / "record.json"
    records.write(trials.trial(), path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"tflite\.0\.top1 is nan"):
        records.write(trials.trial(tflite=[{"top1": math.nan}]), path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["record.json"]


def test_without_room_nothing_is_left_behind(tmp_path):
    """The system itself refuses to write more than a few bytes to a file."""
    path = tmp_path / "record.json"
    records.write(trials.failed(), path)
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError) as raised:
            records.write(trials.trial(), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert raised.value.errno == errno.EFBIG
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["record.json"]


def test_a_table_says_what_the_files_say(tmp_path):
    every = trials.grid(seeds=2)
    trials.write(tmp_path, every)
    table = records.load(tmp_path).set_index("run_id")
    assert len(table) == len(every)
    assert table.attrs["skipped"] == []
    for record in every:
        row = table.loc[record["run_id"]]
        assert row["pair"] == f"{record['model']} on {record['dataset']}"
        for field in ("method", "point", "seed", "control", "pruned_top1", "steps", "env_cpu"):
            assert row[field] == record[field]
        for field in ("layers", "channels", "protected"):
            assert row[field] == record[field]
        assert json.loads(row["preprocess"]) == record["preprocess"]
        for file in record["tflite"]:
            for field in ("bytes", "gzip_bytes", "latency_ms_median", "latency_ratio", "status"):
                assert row[f"{file['variant']}_{field}"] == file[field]


def test_files_are_those_of_the_pruned_model_on_the_first_real_device(tmp_path):
    file = {"variant": "int8", "status": "ok", "device": "arm64", "emulated": True, "bytes": 1}
    real = {"emulated": False, "model": "pruned"}
    files = [
        file,
        file | real | {"model": "baseline", "device": "pi", "bytes": 2},
        file | real | {"device": "pi", "bytes": 3, "top1": None},
        file | real | {"device": "phone", "bytes": 4},
        # Fields that a report relies on keep their own values.
        file | real | {"device": "pi", "variant": "entropy", "bytes": 5},
        file | real | {"device": "pi", "variant": "pruned", "top1": 0.0},
    ]
    record = trials.trial(tflite=files)
    trials.write(tmp_path, [record])
    row = records.load(tmp_path).iloc[0]
    assert (row["int8_bytes"], row["int8_status"]) == (3, "ok")
    assert math.isnan(row["int8_top1"])
    assert row["entropy_bytes"] == record["entropy_bytes"]
    assert row["pruned_top1"] == record["pruned_top1"]


def test_columns_are_there_and_numbers_whatever_records_know(tmp_path):
    trials.write(tmp_path, [trials.failed(), trials.failed(seed=1) | {"pruned_top5": None}])
    table = records.load(tmp_path)
    numbers = ["pruned_top1", "pruned_top5", "compression_ratio", "epochs", "base_params"]
    assert table[numbers].dtypes.eq(float).all()
    assert table[numbers].isna().all(axis=None)
    assert table["layers"].tolist() == [[], []]
    assert table[["preprocess", "selection", "starting_weights_sha256"]].isna().all(axis=None)


def test_runs_of_prune_are_rows_too(tmp_path):
    written(tmp_path / "a/record.json", run_of_prune(point=7.8888))
    shrunk = run_of_prune(axis="macs", point=2.0049, seed=9)
    shrunk |= {"flag_granularity": "channel", "flag_correction": "least_squares"}
    written(tmp_path / "b/record.json", shrunk)
    first, second = (row for _, row in records.load(tmp_path).iterrows())
    assert (first["method"], first["axis"], first["point"]) == (
        "fisher/global",
        "compression",
        7.89,
    )
    assert (second["method"], second["axis"]) == ("fisher/global+least_squares", "macs")
    assert second["point"] == 2.0
    assert (first["seed"], first["epochs"], first["protected"]) == (3, 20, ["stem*"])
    assert (first["kind"], first["status"], first["control"]) == ("run", "ok", False)


def test_what_is_damaged_or_there_twice_is_listed_and_stops_nothing(tmp_path):
    trials.write(tmp_path, [trials.trial(), trials.trial(seed=1)])
    twin = written(tmp_path / "runs/z/record.json", trials.trial())
    half = tmp_path / "runs/y/record.json"
    half.parent.mkdir()
    half.write_text('{"schema": 1, "run')
    written(tmp_path / "set_aside/x/record.json", {})
    written(tmp_path / "runs/w/.record.0a1b.partial", {})
    table = records.load(tmp_path)
    assert len(table) == 2
    (path, damaged), (other, copied) = table.attrs["skipped"]
    assert (path, other) == (str(half), str(twin))
    assert "can't be read as JSON" in damaged
    assert trials.trial()["run_id"] in copied


def test_a_folder_without_records_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        records.load(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"no record\.json"):
        records.load(tmp_path)
    written(tmp_path / "a/record.json", {"schema": 7})
    with pytest.raises(ValueError, match=r"none of 1 records can be read.* schema is 7"):
        records.load(tmp_path)


def test_text_can_always_be_written_out(tmp_path):
    nasty = "a\x00b\x1b[31m\u202e\ud800層"
    trials.write(tmp_path, [trials.trial() | {"method": nasty, "criterion": nasty}])
    table = records.load(tmp_path)
    assert table["method"][0] == nasty.replace("\ud800", "?")
    table.to_csv(tmp_path / "table.csv")


def test_the_environment_is_that_of_the_packages():
    found = records.environment()
    assert found["env_numpy"] == importlib.metadata.version("numpy")
    assert found["env_python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["env_cores"] == os.cpu_count()
    assert all(isinstance(value, str | int) and value for value in found.values())


def test_nothing_heavy_is_imported_until_it_is_used():
    code = (
        "import sys, tfprune.evaluation.records; "
        "assert not {'pandas', 'numpy', 'tensorflow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
