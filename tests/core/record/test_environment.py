"""What a run says of where it was computed, and what differs from there."""

from pathlib import Path

import pytest
import torch

from avsc_core import __version__
from avsc_core.config import Config
from avsc_core.record.environment import (
    describe_environment,
    find_changes,
    merge_environments,
    name_device,
)
from tests.builders.records import fresh_record

TAGS = {
    "avsc.version": "0.2.0",
    "avsc.commit": "0123456789ab",
    "avsc.libraries": "torch 2.11.0, timm 1.0.26",
    "avsc.device": "cpu, x86_64 AVX2",
    "avsc.threads": "1",
    "avsc.host": "here",
}


def test_this_process_is_described(tiny: Config):
    tags = describe_environment(tiny.model_copy(update={"device": "cpu"}))
    assert tags.keys() == TAGS.keys()
    assert tags["avsc.version"] == __version__
    assert f"torch {torch.__version__.split('+')[0]}" in tags["avsc.libraries"]
    assert tags["avsc.device"].startswith("cpu, ")
    assert tags["avsc.threads"] == str(torch.get_num_threads())
    assert find_changes(tags, tags) == []


def test_another_host_alone_is_no_change():
    assert find_changes(TAGS, TAGS | {"avsc.host": "there"}) == []


def test_each_change_is_a_line():
    now = TAGS | {
        "avsc.version": "0.3.0",
        "avsc.commit": "",
        "avsc.libraries": "torch 2.12.0, numpy 2.0, timm 1.0.26",
        "avsc.device": "cuda, NVIDIA H100",
        "avsc.threads": "8",
    }
    assert find_changes(TAGS, now) == [
        "avsc: 0.2.0, now 0.3.0",
        "commit: 0123456789ab, now unknown",
        "torch: 2.11.0, now 2.12.0",
        "numpy: not recorded, now 2.0",
        "device: cpu, x86_64 AVX2, now cuda, NVIDIA H100",
        "threads: 1, now 8",
    ]


def test_what_earlier_versions_did_not_record_is_one_line():
    assert find_changes({}, TAGS) == ["avsc, commit, libraries, device, threads: not recorded"]
    assert name_device({}) == ""
    assert name_device(TAGS) == "cpu, x86_64 AVX2, 1 thread"


def test_a_run_that_continues_elsewhere_keeps_both(tiny: Config, tmp_path: Path):
    elsewhere = TAGS | {"avsc.threads": "2"}
    recorder = fresh_record(tmp_path)
    run_id = recorder.begin_run("s", tiny, {"avsc.kind": "trial", "avsc.arm": "a"})
    for tags in (TAGS, elsewhere, elsewhere):
        recorder.add_environment(run_id, tags)
    (trial,) = recorder.list_trials("s")
    assert trial.tags["avsc.threads"] == "1 then 2"
    assert trial.tags["avsc.device"] == TAGS["avsc.device"]
    assert find_changes(trial.tags, TAGS) == ["threads: 1 then 2, now 1"]
    assert merge_environments({}, TAGS) == TAGS


@pytest.mark.gpu
def test_a_gpu_is_named(tiny: Config):
    tags = describe_environment(tiny.model_copy(update={"device": "cuda"}))
    assert tags["avsc.device"] == f"cuda, {torch.cuda.get_device_name()}"
