"""The prefill attack on a real Llama at tiny size."""

from __future__ import annotations

from adapters.attacks.prefill import PREFIX
from pipelines.llm import decode, generate_replies
from tests.tiny_llm import tiny_model, tiny_tokenizer


def test_every_reply_begins_with_the_prefix_and_goes_on_from_it():
    model, tokenizer = tiny_model(), tiny_tokenizer()
    prompts = ["a", "a much longer prompt than the first one"]
    replies = generate_replies(model, tokenizer, prompts, 12, prefill=PREFIX)
    assert all(reply.startswith(PREFIX) and len(reply) > len(PREFIX) for reply in replies)
    # What follows is what the model says to the prompt with the prefix behind it.
    for prompt, reply in zip(prompts, replies, strict=True):
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
        )
        ids = tokenizer(text + PREFIX, add_special_tokens=False).input_ids
        *_, tokens = decode(model, tokenizer, [ids], max_new_tokens=12)
        assert reply == PREFIX + tokenizer.decode(tokens[0]).rstrip("\ufffd")
    plain = generate_replies(model, tokenizer, prompts, 12)
    assert plain != [reply.removeprefix(PREFIX) for reply in replies]
