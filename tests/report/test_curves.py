"""Charts over the encoders of one run."""

import json

from wisp.report.curves import size_charts
from wisp.report.runs import read_run


def test_accuracy_against_size_over_the_encoders_of_a_run(run_folder):
    charts = size_charts(read_run(run_folder()))
    assert len(charts) == 4
    for title in ("kNN-20 against operations", "kNN-20 against parameters", "linear against operations"):
        assert sum(title in chart for chart in charts) == 1
    assert all(chart.count("<circle") == 2 and 'class="trail' in chart for chart in charts)


def test_one_encoder_has_nothing_to_weigh(run_folder):
    folder = run_folder()
    receipt = json.loads((folder / "result.json").read_text())
    receipt["encoders"].pop("2x")
    (folder / "result.json").write_text(json.dumps(receipt))
    assert size_charts(read_run(folder)) == []
    assert size_charts(read_run(run_folder("unlabelled", labels=False))) == []
    assert size_charts(read_run(run_folder("unfinished", finished=False))) == []
