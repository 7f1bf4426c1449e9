"""SDD's reject variant: what is trained on begins with a refusal; without it nothing changes."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict

import pytest
import torch
from transformers import AutoTokenizer

from adapters import chat_training, text, train
from adapters.loop import LINEAR
from adapters.sdd import SDDConfig, encode_harmful, first_sentences, harmful_pairs, refuse_first
from adapters.text import IGNORE, encode_pair, read_jsonl
from evaluation.embedder import SentenceEncoder
from pipelines.fetch import embedder_folder, llm_folder
from pipelines.paths import ASSETS
from pipelines.profiles import get_profile
from tests.tiny_llm import tiny_llm, tiny_lora, tiny_tokenizer

PROMPTS = ASSETS / "prompts"
REFUSALS = {row["prompt"]: row["response"] for row in read_jsonl(PROMPTS / "refusals.jsonl")}


@pytest.fixture(scope="module")
def encoder():
    return SentenceEncoder()


@pytest.fixture
def few_prompts(tmp_path, monkeypatch):
    """One in 37 of the shipped prompts and replies, so that encoding them takes a second."""
    folder = tmp_path / "prompts"
    folder.mkdir()
    for name in ("redteam", "benign", "borderline", "benign_replies", "refusals"):
        lines = (PROMPTS / f"{name}.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
        kept = lines if name == "refusals" else lines[::37]
        (folder / f"{name}.jsonl").write_text("".join(kept), encoding="utf-8")
    monkeypatch.setattr(text, "PROMPTS", folder)


def test_reject_puts_the_requests_own_refusal_before_an_unrelated_answer(encoder, few_prompts):
    plain = harmful_pairs(SDDConfig(), encoder)
    rejected = harmful_pairs(SDDConfig(reject=True), encoder)
    assert [row["prompt"] for row in rejected] == [row["prompt"] for row in plain]
    replies = read_jsonl(text.PROMPTS / "benign_replies.jsonl")
    answers = {first_sentences(row["response"], SDDConfig().answer_words) for row in replies}
    for before, after in zip(plain, rejected, strict=True):
        assert before["response"] in answers and "refusal" not in before
        refusal = REFUSALS[after["prompt"]]
        assert after["refusal"] == refusal
        assert after["response"] == f"{refusal}\n\n{before['response']}"
        # The refusal is about the request: only the answer may be asked to be far from it.
        cosine = encoder.encode([after["prompt"]]) @ encoder.encode([before["response"]]).T
        assert after["cosine"] == pytest.approx(cosine.item(), abs=1e-4)
        assert after["cosine"] <= 0.25
    assert len({row["refusal"] for row in rejected}) > len(rejected) / 2


def test_a_prompt_without_a_refusal_is_named():
    pairs = [{"prompt": "rob a bank", "response": "Whisk the eggs.", "cosine": 0.0}]
    with pytest.raises(ValueError, match="prompt is 'rob a bank'; refusals has none"):
        refuse_first(pairs, [{"prompt": "pick a lock", "response": "No."}])


def test_the_refusal_takes_no_room_from_the_answer():
    tokenizer = AutoTokenizer.from_pretrained(llm_folder(get_profile("embedded")))
    answer = read_jsonl(PROMPTS / "benign_replies.jsonl")[0]["response"]
    pairs = [{"prompt": p, "response": answer, "cosine": 0.0} for p in list(REFUSALS)[::50]]
    rejected = refuse_first(pairs, [{"prompt": p, "response": r} for p, r in REFUSALS.items()])
    for before, after in zip(pairs, rejected, strict=True):
        plain = encode_harmful(tokenizer, before)
        # As it was before there was a variant.
        assert plain == encode_pair(tokenizer, before["prompt"], before["response"])
        told, both = (
            [token for token in labels if token != IGNORE]
            for _, labels in (plain, encode_harmful(tokenizer, after))
        )
        assert tokenizer.decode(both).startswith(after["refusal"] + "\n\n")
        assert len(both) > len(told) + len(tokenizer(after["refusal"]).input_ids)


def options_of(command):
    return vars(train.parser_for("sdd").parse_args(shlex.split(command)[4:]))


def test_the_shipped_weights_are_trained_without_it_by_their_command():
    record = json.loads((ASSETS / "adapters" / "sdd" / "training.json").read_text())
    args = options_of(record["command"])
    assert args["reject"] is False and SDDConfig().reject is False
    settings = asdict(SDDConfig(**record["config"]))
    assert {name: args[name] for name in settings} == settings


def test_the_command_trains_on_refusals_and_says_so(few_prompts, tmp_path, monkeypatch):
    encoder = embedder_folder()
    monkeypatch.setenv("HOLDFAST_CACHE", str(tmp_path / "cache"))
    profile = tiny_llm(tmp_path / "cache")
    (tmp_path / "cache" / encoder.name).symlink_to(encoder)
    for module in ("pipelines.device", "adapters.loop", "pipelines.llm"):
        monkeypatch.setattr(f"{module}.compute_dtype", lambda on=None: torch.float32)
    monkeypatch.setattr("adapters.registry.ASSETS", tmp_path / "assets")
    monkeypatch.setattr("adapters.train.get_profile", lambda name: profile)
    for module in ("train", "chat_training"):
        monkeypatch.setattr(f"adapters.{module}.runs_dir", lambda: tmp_path / "runs")
    monkeypatch.setattr("adapters.figures.MAX_NEW_TOKENS", 4)
    folder = tmp_path / "assets" / "adapters" / "tiny"
    tiny_lora(folder / "aligned", 1, LINEAR)
    seen = []

    def watched(model, batch_of, *args, **options):
        seen.append(batch_of(0))
        return steps(model, batch_of, *args, **options)

    steps = chat_training.train_steps
    monkeypatch.setattr(chat_training, "train_steps", watched)
    train.main("sdd --reject --steps 1 --batch-size 6".split())

    tokenizer = tiny_tokenizer()
    learnt = [tokenizer.decode(row[row != IGNORE]) for row in seen[0]["labels"]]
    openings = {refusal[:12] for refusal in REFUSALS.values()}
    assert [reply[:12] in openings for reply in learnt] == [True] * 4 + [False] * 2
    record = json.loads((folder / "sdd" / "training.json").read_text())
    assert record["config"]["reject"] is True
    assert " --reject " in record["command"] and options_of(record["command"])["reject"] is True
    assert record["figures"]["steps_done"] == 1
    (samples,) = (tmp_path / "runs").glob("*/samples.jsonl")
    assert max(len(row["reply"]) for row in read_jsonl(samples)) <= 4  # a letter a token
