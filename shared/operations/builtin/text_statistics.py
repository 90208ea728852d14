"""What a text is made of: counts, frequent words, entropy, readability."""

import math
import re
import unicodedata
from collections import Counter
from typing import Final

from pydantic import Field

from shared.operations.builtin.portable_math import log
from shared.operations.model import Input, Operation

__all__ = ["TEXT_STATISTICS"]

UNICODE: Final = unicodedata.ucd_3_2_0
"""The one version of the character tables that every Python carries: newer ones differ between versions."""

JOINERS: Final = "'\u2019-"
_WORD: Final = re.compile(rf"[^ {JOINERS}]+(?:[{JOINERS}][^ {JOINERS}]+)*")
_SENTENCE_END: Final = re.compile(r"[.!?\u2026]+(?:\s|$)")
DIGITS: Final = 9


class TextStatistics(Input):
    """A text, and how many of its most frequent words to name."""

    text: str = Field(max_length=900_000)
    top: int = Field(default=10, ge=0, le=1000)


def _run(task: TextStatistics) -> dict[str, object]:
    text = UNICODE.normalize("NFC", task.text)
    words = [word.casefold() for word in _words(text)]
    frequencies = Counter(words)
    ranked = sorted(frequencies.items(), key=lambda item: (-item[1], item[0]))
    return {
        "characters": len(text),
        "bytes": len(text.encode()),
        "lines": len(text.splitlines()),
        "sentences": len(_SENTENCE_END.findall(text)),
        "words": len(words),
        "distinct_words": len(frequencies),
        "longest_word": max(sorted(frequencies), key=len, default=""),
        "entropy_bits_per_character": round(_entropy(text), DIGITS),
        "top_words": [{"word": word, "count": count} for word, count in ranked[: task.top]],
    }


def _words(text: str) -> list[str]:
    """Runs of letters, marks and digits, joined by single apostrophes and hyphens."""
    others = {ord(each): " " for each in set(text) if each not in JOINERS and not _is_part_of_word(each)}
    return _WORD.findall(text.translate(others))


def _is_part_of_word(character: str) -> bool:
    return UNICODE.category(character)[0] in "LMN"


def _entropy(text: str) -> float:
    """Shannon's entropy of the character distribution; summed exactly, so in any order."""
    total = len(text)
    counts = Counter(text).values()
    return math.fsum(count / total * log(total / count) for count in counts) / log(2.0)


TEXT_STATISTICS = Operation(
    name="text_statistics",
    description="Counts of characters, words and sentences, the most frequent words, and the entropy.",
    input_model=TextStatistics,
    run=_run,
    reusable=True,
    cheap_check=True,
    example={"text": "To be, or not to be: that is the question.", "top": 3},
)
