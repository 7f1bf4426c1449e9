"""The stress test on a Ray cluster: a real one on this machine, with a real Llama at tiny size."""

from __future__ import annotations

import dataclasses
import sys

import pytest

from evaluation import cluster, mounting, stress, workers
from evaluation.runs import RunStore
from pipelines.fetch import embedder_folder
from tests.tiny_llm import tiny_llm, tiny_lora

CELL = mounting.Cell("sdd", "prefill", 0, prompts=3, questions=4)
SFT = mounting.Cell("sdd", "sft", 0, {"steps": 1, "probe_every": 1}, prompts=3, questions=4)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A profile that a process without patches resolves as well: its adapters' path is its name."""
    encoder = embedder_folder()
    monkeypatch.setenv("HOLDFAST_CACHE", str(tmp_path))
    profile = tiny_llm(tmp_path, max_prompt_tokens=120)
    (tmp_path / encoder.name).symlink_to(encoder)
    adapters = tmp_path / "adapters"
    tiny_lora(adapters / "aligned", 1)
    tiny_lora(adapters / "sdd", 2, ("k_proj", "down_proj"))
    return dataclasses.replace(profile, name=str(adapters)), tmp_path


@pytest.mark.slow
def test_runs_come_back_from_a_cluster_and_are_not_repeated(home, capfd):
    pytest.importorskip("ray", reason=f"Ray is optional; {cluster.INSTALL}")
    profile, folder = home
    root = folder / "runs"
    wrong = dataclasses.replace(CELL, prompts=9999)
    tokens = dataclasses.replace(SFT, seed=1)
    cells = [CELL, SFT, wrong, tokens]
    found = dict(workers.run_cells(cells, profile, root, ray="local"))
    told = capfd.readouterr().err
    assert [len(found[at]) for at in range(4)] == [2, 2, 0, 2], told
    assert "failed: sdd, prefill, seed 0: ValueError: prompts is 9999" in told
    store = RunStore(root, folder / "none")
    done = [info for info in store.list() if info.status == "done"]
    assert {row["run"] for rows in found.values() for row in rows} <= {info.id for info in done}
    run = store.get(found[1][0]["run"])
    assert set(run.adapters()) == {"aligned", "sdd"}  # the weights came along
    # All that is outstanding is one that cannot be, so no model is asked again.
    before = len(store.list())
    again = dict(workers.run_cells([CELL, SFT, tokens], profile, root, ray="nowhere:1"))
    assert list(again.values()) == [found[0], found[1], found[3]] and len(store.list()) == before


def test_ray_is_named_where_it_is_missing(home, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match="ray is 'auto', but Ray is not installed: pip install"):
        list(workers.run_cells([CELL], home[0], home[1] / "runs", ray="auto"))


def test_ray_and_workers_do_not_go_together():
    with pytest.raises(SystemExit, match="workers is 2, but with --ray"):
        stress.main(["llm", "--ray", "auto", "--workers", "2"])


def test_a_task_leaves_nothing_behind_and_tells_what_failed(home):
    made, words = workers.mount_cell(home[0], dataclasses.asdict(CELL), {})
    (files,) = made.values()
    assert words == "" and {"run.json", "events.jsonl"} <= set(files)
    wrong = dataclasses.replace(CELL, prompts=9999)
    made, words = workers.mount_cell(home[0], dataclasses.asdict(wrong), {})
    assert words.startswith("ValueError: prompts is 9999")
    (files,) = made.values()
    assert b'"failed"' in files["run.json"]


def test_what_is_given_spares_the_undefended_arm(home):
    profile, folder = home
    made, _ = workers.mount_cell(profile, dataclasses.asdict(SFT), {})
    tiny_lora(folder / "adapters" / "tokenbuncher", 3, ("v_proj",))
    other = dataclasses.asdict(dataclasses.replace(SFT, defence="tokenbuncher"))
    (files,) = workers.mount_cell(profile, other, made)[0].values()
    assert files["events.jsonl"].count(b'"copied"') >= 3


def test_files_travel_whole_and_stay_in_their_folder(tmp_path):
    files = {"run.json": b"{}", "adapters/sdd/adapter_model.safetensors": bytes(range(256))}
    cluster.write_files(tmp_path / "runs" / "a", files)
    assert cluster.read_files(tmp_path / "runs" / "a") == files
    cluster.write_files(tmp_path / "runs" / "a", {"run.json": b"other"})  # it is there already
    assert cluster.read_files(tmp_path / "runs" / "a") == files
    with pytest.raises(ValueError, match="leads out of the run's folder"):
        cluster.write_files(tmp_path / "runs" / "b", {"../c": b""})
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["a"]
