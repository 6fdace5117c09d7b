"""A cluster file that names a tracker: it gets the training's figures, and no training waits for it."""

from __future__ import annotations

import pytest
import yaml
from tiny import commit_to_root

PATH = "clusters/rtb-pricing/cluster.yaml"


def test_figures_go_to_the_tracker_of_the_cluster_file_and_words_do_not(fresh, monkeypatch):
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    pytest.importorskip("mlflow")
    from mlflow import MlflowClient

    cluster = yaml.safe_load((fresh.clone / PATH).read_text()) | {"tracking": {"to": "mlflow", "project": "ours"}}
    (fresh.clone / PATH).write_text(yaml.safe_dump(cluster, sort_keys=False))
    commit_to_root(fresh.clone, fresh.forge)
    assert fresh.modelsmith("validate", "--json").code == 0
    without = fresh.modelsmith("doctor", "--json").json
    (finding,) = [entry for entry in without["findings"] if entry["subject"] == "tracker of rtb-pricing"]
    assert finding["sentence"] == "MLFLOW_TRACKING_URI names no place; it gets nothing"

    store = fresh.folder / "store"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    result = fresh.modelsmith("iterate", "rtb-pricing", "--json")
    assert result.code == 4, result.err[-2000:]
    assert "tracker" not in result.err
    client = MlflowClient(store.as_uri())
    (run,) = client.search_runs([client.get_experiment_by_name("ours").experiment_id])
    assert [metric.step for metric in client.get_metric_history(run.info.run_id, "loss")] == [1, 2, 3, 4]
    assert run.info.status == "FINISHED"
    content = "\n".join(path.read_text() for path in store.rglob("*") if path.is_file()).replace(
        store.as_uri(), "STORE"
    )
    rows = (fresh.private / "rtb-pricing" / "iterations" / "001" / "rows.jsonl").read_text()
    entries_found = [word for word in rows.split() if len(word) > 12]
    for word in (str(fresh.clone), str(fresh.folder), *entries_found[:50]):
        assert word not in content, word
