"""A whole page around what is to be said, and the widget to compare pictures of one photo in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path

HERE = Path(__file__).resolve().parent
# Browsers hold the page to what it promises: nothing is fetched, whatever a file name smuggles in.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


@dataclass(frozen=True)
class ComparedPhoto:
    """One photo in several versions.

    Attributes:
        pictures: name -> ``data:`` address; all of one shape.
        main: which of them is shown first beside the first one.
    """

    caption: str
    pictures: Mapping[str, str]
    main: str


def document(title: str, body: str, style: str = "") -> str:
    """The page.

    Args:
        body: HTML, with a heading.
        style: CSS beyond the common one.
    """
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_file('page.css')}{style}</style></head>"
        f"<body>{body}<script>{_file('page.js')}</script></body></html>\n"
    )


def comparison(photos: Mapping[str, ComparedPhoto]) -> str:
    """A slider between any two pictures of a photo, with zoom; ``photos`` by the name to choose them by."""
    values = {
        name: {"caption": photo.caption, "pictures": dict(photo.pictures), "main": photo.main}
        for name, photo in photos.items()
    }
    data = json.dumps(values).replace("</", "<\\/")  # or a text could end the script
    selects = "".join(f'<label>{name} <select name="{name}"></select></label>' for name in ("photo", "left", "right"))
    return (
        f'<div class="compare"><script type="application/json">{data}</script><div class="controls">{selects}'
        '<button name="in" aria-label="zoom in">+</button><button name="out" aria-label="zoom out">−</button></div>'
        '<div><div class="stage"><img alt="right picture"><img alt="left picture"><div class="line"></div>'
        '<span class="left"></span><span class="right"></span></div>'
        '<input type="range" min="0" max="100" value="50" step="0.1" aria-label="border between the pictures"></div>'
        '<div class="strip"></div><p class="about dim"></p></div>'
    )


def bullets(kind: str, items: list[str]) -> str:
    """A list of texts of the class ``kind``, such as warnings or remarks; nothing without any."""
    entries = "".join(f"<li>{escape(item)}</li>" for item in items)
    return f'<ul class="{kind}">{entries}</ul>' if entries else ""


def _file(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")
