"""Run records: what survives a kill, what is found again, what is refused."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import pytest
from transformers import GPT2Config, GPT2LMHeadModel

from evaluation.runs import PACKED, RunStore, owner_hash, weights_hash
from pipelines.paths import REPO
from tests.tiny_llm import tiny_lora

VISITOR = "visitor"
"""No run's id or hash, being hexadecimal, can hold this name by chance."""


@pytest.fixture
def store(tmp_path):
    return RunStore(tmp_path / "runs", tmp_path / "recorded")


def test_only_the_newest_runs_keep_whole_models(store):
    model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=1, n_embd=4, vocab_size=8))
    runs = [store.create("attack", {"seed": seed}, "embedded", {}) for seed in range(4)]
    for run in (runs[0], runs[1], runs[3]):
        run.save_model("sdd", model)
    store.keep_weights(2, 0)
    order = [store.get(info.id) for info in store.list()]
    assert [bool(run.models()) for run in order if run.id != runs[2].id] == [True, True, False]
    assert (runs[0].folder / "run.json").is_file()
    store.keep_weights(0, 0)
    assert not any(run.models() for run in runs)


def test_only_the_newest_runs_keep_their_loras(store, tmp_path):
    runs = [store.create("attack", {"seed": seed}, "embedded", {}) for seed in range(3)]
    for run in runs:
        run.log(step=1, loss=0.5)
        run.save_files("sdd", lambda scratch: tiny_lora(scratch, 1))
    order = [store.get(info.id) for info in store.list()]
    store.keep_weights(0, 2)
    assert [bool(run.adapters()) for run in order] == [True, True, False]
    assert order[2].events()[0]["loss"] == 0.5


def test_only_the_newest_runs_of_a_kind_are_kept(store):
    runs = [store.create("guard", {"seed": seed}, "embedded", {}) for seed in range(4)]
    other = store.create("attack", {}, "embedded", {})
    for run in (*runs[:2], runs[3], other):
        run.finish("done")
    newest = [info.id for info in store.list() if info.kind == "guard"]
    store.keep_newest(1, ["guard"])
    # The third has not ended.
    kept = {info.id for info in store.list()}
    assert kept == {newest[0], runs[2].id, other.id}


def test_a_run_is_found_again_with_all_it_said(store):
    run = store.create("attack", {"seed": 7, "steps": 2}, "embedded", {"base": "ab"}, VISITOR)
    run.log(step=1, loss=0.5)
    run.log(step=2, loss=float("nan"), more=[float("inf"), "ü"])
    run.finish("done")
    again = RunStore(store.root, store.recorded_root).get(run.id)
    assert again.events() == [
        {"step": 1, "loss": 0.5},
        {"step": 2, "loss": None, "more": [None, "ü"]},
    ]
    assert again.events(since_line=1) == again.events()[1:]
    info = again.info
    assert info["status"] == "done" and info["seed"] == 7 and info["parents"] == {"base": "ab"}
    assert info["versions"]["torch"]
    assert info["owner_hash"] == owner_hash(VISITOR) and VISITOR not in json.dumps(info)
    assert again.owned_by(VISITOR) and not again.owned_by("eve") and not again.owned_by("")


def test_a_half_written_line_is_left_for_later(store):
    run = store.create("attack", {}, "embedded", {})
    run.log(step=1)
    with (run.folder / "events.jsonl").open("a", encoding="utf-8") as stream:
        stream.write('{"step": 2, "lo')
    assert run.events() == [{"step": 1}]
    run.log(step=3)  # whoever wrote the line was killed
    assert run.events() == [{"step": 1}, {"event": "unreadable", "line": 1}, {"step": 3}]


def test_an_unreadable_line_keeps_its_place(store):
    run = store.create("attack", {}, "embedded", {})
    (run.folder / "events.jsonl").write_bytes(b'{"step": 1}\n\xff\xfe\n[1]\n{"step": 4}\n')
    assert run.events() == [
        {"step": 1},
        {"event": "unreadable", "line": 1},
        {"event": "unreadable", "line": 2},
        {"step": 4},
    ]
    assert run.events(3) == [{"step": 4}]


def test_lines_of_many_threads_do_not_mix(store):
    run = store.create("attack", {}, "embedded", {})

    def write(arm):
        for step in range(20):
            run.log(arm=arm, step=step, text="x" * 500)

    threads = [threading.Thread(target=write, args=(arm,)) for arm in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    events = run.events()
    assert len(events) == 80
    for arm in "abcd":
        assert [event["step"] for event in events if event["arm"] == arm] == list(range(20))


def test_killing_the_process_loses_no_finished_step(store):
    code = (
        "import sys, time; from pathlib import Path; from evaluation.runs import RunStore\n"
        "run = RunStore(Path(sys.argv[1])).create('attack', {}, 'embedded', {})\n"
        "for step in range(10_000):\n"
        "    run.log(step=step)\n"
        "    print(run.id, step, flush=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(store.root)],
        cwd=REPO,
        stdout=subprocess.PIPE,
        text=True,
    )
    for line in process.stdout:
        run_id, said = line.split()
        if int(said) >= 5:
            break
    run = store.get(run_id)
    assert run.info["status"] == "running"
    os.kill(process.pid, signal.SIGKILL)
    process.stdout.close()
    process.wait()
    steps = [event["step"] for event in run.events()]
    assert steps == list(range(len(steps))) and len(steps) > int(said)
    assert run.info["status"] == "interrupted"
    assert store.list()[0].status == "interrupted"


def test_what_has_not_changed_is_parsed_once_and_what_has_is_seen_at_once(store, monkeypatch):
    run = store.create("attack", {"seed": 1}, "embedded", {})
    other = store.create("attack", {"seed": 2}, "embedded", {})
    run.log(step=1)

    def look():
        return len(store.list()), store.get(run.id).info["status"], store.get(run.id).events()

    assert look() == (2, "running", [{"step": 1}])
    read = []
    content = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read.append(path) or content(path))
    store.get(run.id).info["status"] = "changed by a caller"
    store.get(run.id).events().clear()
    assert look() == (2, "running", [{"step": 1}])
    assert read == []
    run.log(step=2)
    run.finish("done")
    assert look() == (2, "done", [{"step": 1}, {"step": 2}])
    assert store.get(run.id).events(1) == [{"step": 2}]
    shutil.rmtree(other.folder)
    assert look()[0] == 1
    (run.folder / "events.jsonl").unlink()
    assert look() == (1, "done", [])


def test_many_threads_see_each_line_while_it_is_written(store):
    run = store.create("attack", {}, "embedded", {})
    missed = []

    def watch():
        seen = 0
        while seen < 200:
            steps = [event["step"] for event in store.get(run.id).events()]
            if steps != list(range(len(steps))) or len(steps) < seen:
                missed.append(steps)
                return
            seen = len(steps)

    watchers = [threading.Thread(target=watch) for _ in range(4)]
    for thread in watchers:
        thread.start()
    for step in range(200):
        run.log(step=step)
    for thread in watchers:
        thread.join(60)
        assert not thread.is_alive()
    assert missed == []


def test_list_is_newest_first_and_holds_the_recorded_ones(store):
    old = store.create("attack", {}, "embedded", {})
    old.finish("done")
    recorded = store.recorded_root / old.id.replace(old.id[:8], "20200101", 1)
    recorded.parent.mkdir()
    os.rename(old.folder, recorded)
    info = json.loads((recorded / "run.json").read_text())
    info |= {"id": recorded.name, "created": "2020-01-01T00:00:00.000+00:00"}
    (recorded / "run.json").write_text(json.dumps(info))
    first = store.create("attack", {}, "embedded", {})
    second = store.create("train", {}, "embedded", {})
    (store.root / "not a run").mkdir()
    broken = store.root / "20200101-000000-attack-abcdef"
    broken.mkdir()
    (broken / "run.json").write_text("{")
    listed = store.list()
    assert [info.id for info in listed][2:] == [recorded.name]
    assert {info.id for info in listed[:2]} == {first.id, second.id}
    assert [info.recorded for info in listed] == [False, False, True]
    run = store.get(recorded.name)
    assert run.recorded
    for change in (lambda: run.log(step=1), lambda: run.finish("done")):
        with pytest.raises(PermissionError, match="recorded"):
            change()


@pytest.mark.parametrize("bad", ["", "..", "../runs", "/etc", "20200101-000000-x-abcdef", "a\n", 3])
def test_an_id_is_never_a_path(store, bad):
    with pytest.raises(KeyError, match="there is no run"):
        store.get(bad)


def test_wrong_names_are_refused(store, tmp_path):
    with pytest.raises(ValueError, match="kind is '../x'"):
        store.create("../x", {}, "embedded", {})
    run = store.create("attack", {}, "embedded", {})
    with pytest.raises(ValueError, match="status is 'fine'"):
        run.finish("fine")
    with pytest.raises(ValueError, match="arm is '../x'"):
        run.save_files("../x", lambda folder: folder)


def test_an_adapter_is_replaced_whole_and_loads_again(store, tmp_path):
    from peft import PeftModel

    from tests.tiny_llm import tiny_model

    def saved(model, scratch):
        model.save_pretrained(scratch, save_embedding_layers=False)
        return scratch

    run = store.create("attack", {}, "embedded", {})
    assert run.adapters() == {}
    for seed in (1, 2):
        model = PeftModel.from_pretrained(tiny_model(), tiny_lora(tmp_path / str(seed), seed))
        folder = run.save_files("sdd", partial(saved, model))
    assert run.adapters() == {"sdd": folder}
    assert weights_hash(folder) == weights_hash(tmp_path / "2") != weights_hash(tmp_path / "1")
    assert sorted(path.name for path in folder.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    assert sorted(path.name for path in run.folder.iterdir()) == ["adapters", "run.json"]


def test_packed_events_of_a_run_that_ships_are_read(tmp_path):
    run = RunStore(tmp_path / "mine").create("attack", {}, "embedded", {})
    run.log(step=1)
    run.log(step=2)
    lines = run.folder / "events.jsonl"
    (run.folder / PACKED).write_bytes(gzip.compress(lines.read_bytes()))
    lines.unlink()
    assert run.events() == [{"step": 1}, {"step": 2}]
    assert run.events(1) == [{"step": 2}]


def test_every_run_that_ships_can_be_replayed(tmp_path):
    store = RunStore(tmp_path)
    infos = store.list()
    assert infos and all(info.recorded for info in infos)
    for info in infos:
        kinds = {event["event"] for event in store.get(info.id).events()}
        wanted = {
            "attack": {"start", "probe", "measured"}, "concept": {"step", "probe"},
            "guard": {"step", "probe"},
        }  # fmt: skip
        assert wanted[info.kind] <= kinds, info.id
        assert "unreadable" not in kinds, info.id
