import json

import pytest

from wisp.errors import WispError
from wisp.report.runs import read_run, read_runs


def test_a_finished_run(run_folder):
    record = read_run(run_folder("done", epochs=4))
    assert (record.name, record.fact("method_name"), record.fact("model"), record.data) == (
        "done",
        "sacl_xd",
        "resnet20",
        "digits",
    )
    assert record.encoders == ["1x", "2x"]
    assert record.accuracy("1x").protocols == pytest.approx({"kNN-20": 0.951, "kNN-200": 0.902, "linear": 0.968})
    assert record.untrained.protocols == pytest.approx({"kNN-20": 0.88, "kNN-200": 0.801, "linear": 0.931})
    assert record.done == 4
    assert [row["epoch"] for row in record.epochs] == [1, 2, 3, 4]
    assert ("run.json", record.files[-2][1]) == record.files[-2] or any(path == "run.json" for path, _ in record.files)


def test_the_final_evaluation_completes_the_last_epoch(run_folder):
    record = read_run(run_folder(epochs=3))
    assert record.epochs[-1]["knn"]["2x"] == pytest.approx({"20": 0.959, "200": 0.910})
    assert record.epochs[-1]["health"]["effective_rank"] == 31.4
    assert record.epochs[0]["health"]["effective_rank"] != 31.4


def test_an_unfinished_run_shows_the_monitors_last_word(run_folder):
    record = read_run(run_folder(epochs=3, finished=False))
    assert record.result is None
    assert record.cost == {}
    assert record.encoders == ["1x", "2x"]
    last = record.epochs[-1]["knn"]["1x"]
    assert record.accuracy("1x").protocols == {"kNN-20": last["20"], "kNN-200": last["200"]}
    assert 0.8 < last["20"] < 1


def test_a_run_that_has_only_begun(run_folder):
    folder = run_folder(finished=False)
    (folder / "metrics.jsonl").unlink()
    (folder / "env.json").unlink()
    record = read_run(folder)
    assert (record.steps, record.epochs, record.encoders, record.done, record.warning) == ([], [], [], 0, None)


def test_half_a_last_line_is_dropped(run_folder):
    folder = run_folder(finished=False, epochs=2)
    path = folder / "metrics.jsonl"
    rows = len(path.read_text().splitlines())
    path.write_text(path.read_text() + '{"kind": "step", "st')
    record = read_run(folder)
    assert len(record.steps) + len(record.epochs) == rows


def test_without_labels_there_is_no_accuracy(run_folder):
    record = read_run(run_folder(labels=False))
    assert record.accuracy("1x").protocols == {}
    assert record.untrained.protocols == {}


def test_the_last_warning_counts(run_folder):
    assert read_run(run_folder("a", warning="it fell")).warning == "it fell"
    assert read_run(run_folder("b", warning="it fell", finished=False)).warning == "it fell"
    assert read_run(run_folder("c")).warning is None


def test_a_long_data_path_is_named_by_its_end(run_folder):
    assert read_run(run_folder("a", data="/home/me/photos/birds/train.parquet")).data == "birds/train.parquet"
    assert read_run(run_folder("b", data="photos")).data == "photos"


def test_what_is_no_run_is_refused_in_one_line(tmp_path, run_folder):
    with pytest.raises(WispError, match="not a run folder"):
        read_run(tmp_path)
    for name, content in (("run.json", "{"), ("run.json", "[1]"), ("result.json", ""), ("env.json", '"x"')):
        folder = run_folder(f"{name}-{len(content)}")
        (folder / name).write_text(content)
        with pytest.raises(WispError, match=name) as caught:
            read_run(folder)
        assert "\n" not in str(caught.value)
    with pytest.raises(WispError, match="at least one"):
        read_runs([])


def test_numbers_that_are_not_finite_are_missing(run_folder):
    folder = run_folder()
    result = json.loads((folder / "result.json").read_text())
    result["encoders"]["1x"]["knn"]["20"] = float("nan")
    result["encoders"]["1x"]["linear"] = None
    (folder / "result.json").write_text(json.dumps(result))
    assert read_run(folder).accuracy("1x").protocols == pytest.approx({"kNN-200": 0.902})
