"""Where words stand in the pictures of a page, to see that none stands in another."""

from __future__ import annotations

import itertools
import re

# Of 12 pixels sans-serif: digits are 6.7 wide, letters 6 on average; capitals 9 high.
LETTER, HEIGHT = 6.2, 9.0
WORDS = re.compile(r'<text x="([\d.-]+)" y="([\d.-]+)" text-anchor="(\w+)">([^<]*)</text>')
Box = tuple[float, float, float, float, str]


def boxes(svg: str) -> list[Box]:
    """(left, top, right, bottom, words) of the level words of one picture."""
    found = []
    for x, y, anchor, words in WORDS.findall(svg):
        width = LETTER * len(words.replace("&amp;", "&"))
        left = float(x) - {"start": 0.0, "middle": width / 2, "end": width}[anchor]
        found.append((left, float(y) - HEIGHT, left + width, float(y), words))
    return found


def touching(svg: str) -> list[tuple[str, str]]:
    """Pairs of words that stand in each other."""
    return [
        (a[4], b[4])
        for a, b in itertools.combinations(boxes(svg), 2)
        if a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
    ]


def outside(svg: str) -> list[str]:
    """Words that stand over the picture's edge."""
    size = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
    assert size is not None
    width, height = float(size[1]), float(size[2])
    return [b[4] for b in boxes(svg) if min(b[:2]) < 0 or b[2] > width or b[3] > height]
