"""Published red-team prompts by name, for models that are not this project's small ones.

Nothing of them ships: whoever names one fetches it from the Hugging Face Hub under its own licence
(``datasets`` keeps it in its cache), and the demo's own prompts stay the default everywhere. Read
by ``python -m evaluation.chat --prompts NAME``.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PromptSet:
    """Where a set lies, and which of its texts are the prompts.

    Attributes:
        repo: of the Hub's data sets.
        split: the part that is asked.
        column: of the prompts.
        subset: configuration of the data set; "": it has one only.
        paper: arXiv identifier.
        licence: of the data, as its page names it.
    """

    repo: str
    split: str
    column: str
    subset: str
    paper: str
    licence: str


SETS: dict[str, PromptSet] = {
    "beavertails": PromptSet(
        "PKU-Alignment/BeaverTails", "30k_test", "prompt", "", "2307.04657", "CC BY-NC 4.0"
    ),
    "harmbench": PromptSet(
        "walledai/HarmBench", "train", "prompt", "standard", "2402.04249", "MIT"
    ),
    "strongreject": PromptSet("walledai/StrongREJECT", "train", "prompt", "", "2402.10260", "MIT"),
}
"""Sets by the name that the command line takes."""


def load_prompts(name: str) -> list[str]:
    """Fetch a set, or read it from the cache, and return its prompts in its order, each once.

    Args:
        name: a key of `SETS`.

    Raises:
        ValueError: there is no such set, it could not be had, or it is not laid out as expected.
    """
    if name not in SETS:
        raise ValueError(f"prompts is {name!r}; sets by name are: {', '.join(SETS)}")
    from datasets import load_dataset

    known = SETS[name]
    try:
        rows = load_dataset(known.repo, known.subset or None, split=known.split)
    # Of the Hub, the disk and the data set itself there are a dozen kinds, told by their words.
    except Exception as error:
        raise ValueError(
            f"prompts is {name!r}: {known.repo} could not be had ({str(error)[:200]}). It is "
            f"fetched from the Hugging Face Hub under its licence ({known.licence}): check the "
            "network, and if its page asks for it accept its terms and sign in with `hf auth login`"
        ) from error
    if known.column not in rows.column_names:
        raise ValueError(
            f"prompts is {name!r}: {known.repo} has the columns {', '.join(rows.column_names)}; "
            f"wanted {known.column!r}"
        )
    texts = (text.strip() for text in rows[known.column] if isinstance(text, str))
    prompts = list(dict.fromkeys(text for text in texts if text))
    if not prompts:
        raise ValueError(f"prompts is {name!r}: {known.repo} holds no prompt in {known.split!r}")
    return prompts
