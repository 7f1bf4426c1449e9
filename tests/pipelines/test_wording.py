"""Visitors' words for what the embedded picture model was taught by others."""

from __future__ import annotations

import random

import pytest
from transformers import CLIPTokenizer

from pipelines.paths import ASSETS
from pipelines.refine import Refiner
from pipelines.wording import OTHER_WORDS, taught
from worlds.looks import caption, random_look
from worlds.motions import MOTIONS


@pytest.fixture(scope="module")
def tokenizer() -> CLIPTokenizer:
    return CLIPTokenizer.from_pretrained(ASSETS / "avatar-sd" / "tokenizer")


@pytest.mark.parametrize(
    "said, read",
    [
        ("a woman in grey jeans, beach", "a person in gray trousers, beach"),
        ("A Man wearing a Navy Blue Hoodie", "A person wearing a blue shirt"),
        ("a polka-dot tee", "a dotted t-shirt"),
        ("a person, pixel-art", "a person, pixel art"),
        ("short grey hair and a grey shirt", "short white hair and a gray shirt"),
        ("a person with black skin and a black shirt", "a person with dark skin and a black shirt"),
        ("a person with a top hat at night", "a person with a top hat, night"),
        ("In the garden, a boy in short pants", "park, a person in shorts"),
        ("a girl holding a book in the park", "a person holding a book, park"),
        ("a girl holding a book, on the beach", "a person holding a book, beach"),
        ("a lady holding a football by the sea", "a person holding a ball, beach"),
        ("a football player in a football shirt", "a football player in a football shirt"),
        ("a man in a sea green shirt, studio", "a person in a green shirt, studio"),
        ("a man in a stage costume on the stage", "a person in a stage costume, stage"),
        ("a man in the park wearing jeans", "a person, park wearing trousers"),
        ("an olive green tee and jeans shorts", "an green t-shirt and shorts"),
        ("charcoal sketch of a person, golden hour", "pencil sketch of a person, golden hour"),
        ("İn the park, a GİRL and a gırl", "park, a GİRL and a gırl"),
        ("a manly greyhound, womankind, tee-total", "a manly greyhound, womankind, tee-total"),
    ],
)
def test_other_words_for_the_same_are_read(said, read):
    assert taught(said)[0] == read


def test_what_was_replaced_is_told_once_in_the_order_of_the_prompt():
    _, replaced = taught("a girl in Grey pants and a grey jumper")
    assert list(replaced.items()) == [
        ("girl", "person"), ("grey", "gray"), ("pants", "trousers"), ("jumper", "shirt"),
    ]  # fmt: skip


def test_captions_are_read_as_they_are():
    rng = random.Random(0)
    for motion in MOTIONS.values():
        for closeup in (False, True):
            said = caption(random_look(rng), motion.verb, closeup)
            assert taught(said) == (said, {})


def test_every_word_that_is_put_in_was_taught(tokenizer):
    words = " ".join(OTHER_WORDS).replace("-", " ").split()
    assert [word for word in words if len(tokenizer.tokenize(word)) > 1] == []


def test_no_word_leads_to_a_weapon():
    assert not {"pistol", "gun", "weapon"} & set(" ".join(OTHER_WORDS).split())
    assert taught("a person holding a gun")[0] == "a person holding a gun"


def test_the_refiner_reads_it_as_well():
    refiner = Refiner.load(ASSETS / "refiner")
    assert "umbrella" not in refiner.reads("a woman holding a brolly")
    assert refiner.reads(taught("a girl holding a book in the park")[0]).endswith("a book, park")
    read, _ = taught("a woman in a dotted tee holding a brolly, pixel-art")
    assert "dotted t-shirt holding a umbrella, pixel art" in refiner.reads(read)
