"""A page that shows the files of a commit as a treemap; one file, without scripts."""

from __future__ import annotations

import hashlib
import html
from collections.abc import Callable, Iterator, Sequence

from compose.sizes import size
from compose.treemap import HEADER, Box, boxes, tree_of

_WIDTH, _HEIGHT = 1600, 1000
_LETTER = 6.2
"""Width of an average letter of the labels, in pixels."""
_LEGEND = 16
_STYLE = """
body { font: 14px/1.4 system-ui, sans-serif; margin: 1em; background: #fff; color: #222 }
h1 { font-size: 1.2em; margin: 0 }
p { margin: .3em 0 .6em }
svg { width: 100%; height: auto; font-size: 11px }
rect { stroke: #fff; stroke-width: .5 }
g:hover > rect { stroke: #000; stroke-width: 1.5 }
text { pointer-events: none }
ul { list-style: none; padding: 0; margin: .6em 0; columns: 20em }
i { display: inline-block; width: .9em; height: .9em; margin-right: .4em; vertical-align: -.1em }
"""


def page(title: str, total: str, files: Sequence[tuple[str, int, str]], describe: Callable[[str], str]) -> str:
    """Return the page as HTML.

    total: a line below the title. files: (path without a leading "/", bytes, source); the source is "" if it is not known.
    describe: what to call a source.
    """
    return "\n".join(_lines(title, total, files, describe)) + "\n"


def _lines(
    title: str, total: str, files: Sequence[tuple[str, int, str]], describe: Callable[[str], str]
) -> Iterator[str]:
    yield "<!DOCTYPE html>"
    yield f'<html lang="en"><head><meta charset="utf-8"><title>{_text(title)}</title>'
    yield f"<style>{_STYLE}</style></head><body>"
    yield f"<h1>{_text(title)}</h1>"
    yield f"<p>{_text(total)}. Areas are sizes; identical contents count once.</p>"
    yield f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}">'
    for box in boxes(tree_of(files), _WIDTH, _HEIGHT):
        yield _box(box, describe)
    yield "</svg><ul>"
    for source, count in _largest(files):
        yield f'<li><i style="background:{_colour(source)}"></i>{_text(describe(source))} {size(count)}</li>'
    yield "</ul></body></html>"


def _box(box: Box, describe: Callable[[str], str]) -> str:
    node, place = box.node, box.place
    tip = f"{node.path}: {size(node.size)}"
    if node.source and not node.children:
        tip += f"\n{describe(node.source)}"
    fill = "#eee" if box.divided else _colour(node.source)
    label = ""
    if place.height >= HEADER and (room := int((place.width - 4) / _LETTER)) >= 3:
        name = node.name if len(node.name) <= room else node.name[: room - 1] + "…"
        label = f'<text x="{place.x + 3:.1f}" y="{place.y + 11:.1f}">{_text(name)}</text>'
    return (
        f'<g><rect x="{place.x:.1f}" y="{place.y:.1f}" width="{place.width:.1f}" height="{place.height:.1f}" fill="{fill}"/>'
        f"<title>{_text(tip)}</title>{label}</g>"
    )


def _largest(files: Sequence[tuple[str, int, str]]) -> list[tuple[str, int]]:
    """The sources that brought most, with their bytes."""
    found: dict[str, int] = {}
    for _, count, source in files:
        if source:
            found[source] = found.get(source, 0) + count
    return sorted(found.items(), key=lambda row: (-row[1], row[0]))[:_LEGEND]


def _colour(source: str) -> str:
    """The same for a source in every page; grey for none."""
    if not source:
        return "#ccc"
    digest = hashlib.sha256(source.encode(errors="surrogateescape")).digest()
    hue, lightness = int.from_bytes(digest[:2]) % 360, 66 + digest[2] % 16
    return f"hsl({hue},55%,{lightness}%)"


def _text(text: str) -> str:
    """Escape what HTML gives a meaning, and what cannot be printed: names in a commit may hold anything."""
    shown = "".join(each if each.isprintable() or each == "\n" else repr(each)[1:-1] for each in text)
    return html.escape(shown)
