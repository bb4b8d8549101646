"""`avsc-search ui` (studies/browse.py) leads to a study's trials in MLflow, and leaves nothing."""

import json
import os
import re
import signal
import socket
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from studies import browse
from studies.study.page import KEY, TAG, make_page_tags
from studies.study.plan import make_plan
from tests.builders.commands import RECORD, run, start_process
from tests.builders.outages import find_free_port
from tests.builders.records import copy_empty_record, open_record_in
from tests.builders.studies import read

STUDY = "question: q\nsearch: {space: {alignment.k: {low: 1, high: 8}}}\n"


def make_record(folder: Path) -> str:
    """Make a record with one study, and return the id of its experiment."""
    copy_empty_record(folder / RECORD)
    recorder = open_record_in(folder, RECORD)
    study = read(folder, STUDY)
    recorder.open_study_run(study.name, {"avsc.metric": "val_acc"}, {})
    recorder.write_page(study.name, make_page_tags(make_plan(study)))
    return recorder.open_experiment(study.name)


def test_the_link_leads_to_the_trials(tmp_path: Path):
    experiment = make_record(tmp_path)
    port = find_free_port()
    ui = start_process(tmp_path, "avsc-search", "ui", "--port", str(port))
    try:
        # It is printed when the server answers, and not before.
        line = ui.stdout.readline()
        link = f"/#/experiments/{experiment}/runs?viewStateShareKey={KEY}&"
        assert line.startswith(f"http://127.0.0.1:{port}{link}"), line + ui.stderr.read()
        query = f"/ajax-api/2.0/mlflow/experiments/get?experiment_id={experiment}"
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{query}", timeout=30) as answer:
            tags = {tag["key"] for tag in json.load(answer)["experiment"]["tags"]}
        assert {TAG, "mlflow.experimentKind"} <= tags

        # The pages of a record behind a server are the server's.
        server = f"http://127.0.0.1:{port}"
        done = run(tmp_path, "avsc-search", "ui", "--tracking-uri", server)
        assert (done.code, done.err) == (0, "")
        assert done.out.startswith(f"{server}{link}")
    finally:
        os.killpg(ui.pid, signal.SIGINT)  # as Ctrl-C in a terminal
        out, err = ui.communicate(timeout=60)
    assert (ui.returncode, out, err) == (0, "", "")
    with socket.socket() as ours:
        assert ours.connect_ex(("127.0.0.1", port)) != 0


def test_a_port_that_is_taken(tmp_path: Path):
    make_record(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run(tmp_path, "avsc-search", "ui", "--port", str(port))
    assert done.code == 2
    told = rf"--port: port {port} cannot be used \(Address already in use\); use another one,"
    assert re.fullmatch(rf"{told} such as --port \d+\n", done.err)


def test_a_server_that_dies_is_told(tmp_path: Path):
    make_record(tmp_path)
    ui = start_process(tmp_path, "avsc-search", "ui", "--port", str(find_free_port()))
    assert "Ctrl-C ends it" in ui.stdout.readline()
    for child in psutil.Process(ui.pid).children(recursive=True):
        child.kill()
    _, err = ui.communicate(timeout=60)
    assert ui.returncode == 4
    assert err.startswith("ui: MLflow's server has ended: ")


def test_no_password_is_shown(monkeypatch: pytest.MonkeyPatch):
    shown = []
    monkeypatch.setattr(browse, "_show", shown.append)
    record = SimpleNamespace(uri="https://me:s3cret@host:5000/path", list_studies=lambda: [])
    monkeypatch.setattr(browse, "open_record", lambda uri: record)
    browse.browse(None, record.uri, 5000)
    assert shown == ["https://host:5000/path/"]


def test_a_study_renamed_in_mlflow(tmp_path: Path):
    make_record(tmp_path)
    recorder = open_record_in(tmp_path, RECORD)
    recorder.client.rename_experiment(recorder.open_experiment("study"), "another name")
    assert browse._find_link(recorder, None) == "/"
