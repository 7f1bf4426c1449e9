"""A visitor's words for things that the embedded picture model was taught by other words.

Its captions say "gray", "trousers" and "person". Somebody who asks for a woman in grey jeans means
what it can draw, in words that it cannot read. They are replaced before anything reads the prompt,
on both sides of a pair alike, and the result says which. Weapons have no other names here.
"""

from __future__ import annotations

import re

OTHER_WORDS: dict[str, str] = {
    "person": "man, woman, boy, girl, lady, gentleman, guy, kid, child, teenager, human, somebody, "
    "someone, doll, figure, character",
    "trousers": "pants, jeans, leggings, slacks, chinos",
    "t-shirt": "tshirt, t shirt, tee, tee-shirt, tee shirt, polo shirt, short-sleeved shirt",
    "shirt": "sweater, jumper, pullover, hoodie, sweatshirt, blouse, cardigan, long-sleeved shirt",
    "striped": "stripy, stripey",
    "dotted": "polka-dot, polka dot, polka-dotted, polka dotted, spotted, dotty, spotty",
    "glasses": "spectacles, eyeglasses, specs, sunglasses",
    "cap": "baseball cap",
    "beanie": "woolly hat, woollen hat, wool hat, knit hat, knitted hat, bobble hat",
    "top hat": "top-hat, tophat, silk hat",
    "umbrella": "parasol, brolly",
    "book": "notebook, novel",
    "ball": "football, soccer ball",
    "guitar": "ukulele",
    "park": "garden, meadow, forest, in the woods, in a park, in the park",
    "beach": "seaside, seashore, by the sea, at the beach, on a beach, on the beach",
    "night": "at night, night sky, starry night, nighttime, night-time, moonlight",
    "stage": "theatre, theater, on stage, on a stage, on the stage",
    "room": "indoors, living room, bedroom, in a room, in the room",
    "studio": "plain background, white background, in a studio, in the studio",
    "pencil sketch": "pencil-sketch, pencil drawing, pencil-drawing",
    "pixel art": "pixel-art, pixelart, pixelated, 8-bit, 8 bit",
    "face close-up of": "face close up of, close-up of the face of, portrait of",
    "gray": "grey, silver, charcoal",
    "blue": "navy, navy blue, dark blue, light blue, sky blue, turquoise, teal",
    "green": "dark green, light green, lime, olive",
    "red": "crimson, scarlet, dark red, maroon",
    "purple": "violet, lilac, lavender, magenta",
    "yellow": "golden, mustard",
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
"""What the model was taught → what else is said for it."""

_TAUGHT = {said: taught for taught, others in OTHER_WORDS.items() for said in others.split(", ")}
# Of two that begin alike the longer one: "navy blue" before "navy".
_SAID = re.compile(
    rf"(?<![\w-])(?:{'|'.join(map(re.escape, sorted(_TAUGHT, key=len, reverse=True)))})(?![\w-])",
    re.IGNORECASE,
)


def taught(prompt: str) -> tuple[str, dict[str, str]]:
    """Put a prompt into the words of the embedded picture model's captions.

    Args:
        prompt: as a visitor wrote it.

    Returns:
        The prompt, and what was replaced: as it was written, in small letters → as it is read.
    """
    found: dict[str, str] = {}

    def replace(match: re.Match[str]) -> str:
        said = match[0].lower()
        return found.setdefault(said, _TAUGHT[said])

    return _SAID.sub(replace, prompt), found
