"""A visitor's words for things that the embedded picture model was taught by other words.

Its captions say "gray", "trousers" and "person". Somebody who asks for a woman in grey jeans means
what it can draw, in words that it cannot read. They are replaced before anything reads the prompt,
on both sides of a pair alike, and the result says which. Weapons have no other names here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

OTHER_WORDS: dict[str, str] = {
    "person": "man, woman, boy, girl, lady, gentleman, guy, kid, child, teenager, human, somebody, "
    "someone, doll, figure, character",
    "trousers": "pants, jeans, leggings, slacks, chinos",
    "shorts": "short pants, short trousers, short jeans, jeans shorts, jean shorts",
    "t-shirt": "tshirt, t shirt, tee, tee-shirt, tee shirt, polo shirt, short-sleeved shirt",
    "shirt": "sweater, jumper, pullover, hoodie, sweatshirt, blouse, cardigan, long-sleeved shirt",
    "striped": "stripy, stripey",
    "dotted": "polka-dot, polka dot, polka-dotted, polka dotted, spotted, dotty, spotty",
    "glasses": "spectacles, eyeglasses, specs, sunglasses",
    "cap": "baseball cap",
    "beanie": "woolly hat, woollen hat, wool hat, knit hat, knitted hat, bobble hat",
    "top hat": "top-hat, tophat, silk hat",
    "umbrella": "parasol, brolly",
    "book": "notebook",
    "holding a ball": "holding a football, holding a beach ball, holding a soccer ball",
    "guitar": "ukulele",
    "park": "garden, meadow, forest, woods",
    "beach": "seaside, seashore, sea",
    "night": "night sky, starry night, nighttime, night-time, moonlight",
    "stage": "theatre, theater",
    "room": "indoors, living room, bedroom",
    "studio": "plain background, white background",
    "pencil sketch": "pencil-sketch, pencil drawing, pencil-drawing, charcoal sketch, "
    "charcoal drawing",
    "pixel art": "pixel-art, pixelart, pixelated, 8-bit, 8 bit",
    "face close-up of": "face close up of, close-up of the face of",
    "gray": "grey, silver",
    "blue": "navy, navy blue, dark blue, light blue, sky blue, sea blue, night blue, turquoise, "
    "teal",
    "green": "dark green, light green, forest green, sea green, lime, lime green, olive, "
    "olive green",
    "red": "crimson, scarlet, dark red, maroon",
    "purple": "violet, lilac, lavender, magenta",
    "yellow": "mustard",
    "blonde": "blond",
    "red hair": "ginger hair, auburn hair",
    "brown hair": "brunette hair, chestnut hair",
    "blonde hair": "golden hair, yellow hair, fair hair",
    "white hair": "grey hair, gray hair, silver hair",
    "light skin": "pale skin, fair skin, white skin",
    "tan skin": "tanned skin, olive skin",
    "dark skin": "black skin",
    "smiling": "happy",
    "sad": "crying, unhappy",
    "angry": "furious",
    "sleepy": "tired",
    "surprised": "astonished, amazed",
}
"""What the model was taught → what else is said for it. Only what is meant so nearly everywhere: a
"football shirt" is no ball, a "portrait" may be of the whole figure."""

PLACES = ("park", "beach", "night", "stage", "room", "studio")
"""In captions these stand behind a comma, and not behind "in the"."""

_TAUGHT = {said: taught for taught, others in OTHER_WORDS.items() for said in others.split(", ")}


def _any_of(words: Iterable[str]) -> str:
    # Of two that begin alike the longer one: "navy blue" before "navy".
    return "|".join(map(re.escape, sorted(words, key=len, reverse=True)))


_SAID = re.compile(rf"(?<![\w-])(?:{_any_of(_TAUGHT)})(?![\w-])", re.IGNORECASE)
_THERE = re.compile(
    rf"(?:^|\s*,\s*|\s+)(?:in|at|on|by|inside)\s+(?:an?\s+|the\s+)?({_any_of(PLACES)})"
    r"(?=\s*(?:[,.;!]|$|(?:and|with|at|in|wearing|holding)\b))",
    re.IGNORECASE,
)
"""Where the phrase ends behind the place: "in a stage costume" is none."""


def taught(prompt: str) -> tuple[str, dict[str, str]]:
    """Put a prompt into the words of the embedded picture model's captions.

    Args:
        prompt: as a visitor wrote it.

    Returns:
        The prompt, and which words were replaced: as they were written, in small letters → as they
        are read.
    """
    found: dict[str, str] = {}

    def word(match: re.Match[str]) -> str:
        said = match[0].lower()
        # Of letters such as the Turkish İ the small ones are others than those compared with.
        return found.setdefault(said, _TAUGHT[said]) if said in _TAUGHT else match[0]

    def place(match: re.Match[str]) -> str:
        return match[1] if match.start() == 0 else f", {match[1]}"

    return _THERE.sub(place, _SAID.sub(word, prompt)), found
