"""One restored face on the report page: before and after, is it the person, and where its regions come from."""

from __future__ import annotations

from html import escape
from pathlib import Path

import numpy as np

from lit_restore.errors import UserError
from lit_restore.inference.face_restorer import LOWERED
from lit_restore.inference.report import FaceReport, ReferenceReport
from lit_restore.inference.restored import RestoredFace
from lit_restore.inference.share_pictures import colour, drawn_from, looked_at
from lit_restore.pages.document import ComparedPhoto, bullets, comparison
from lit_restore.pages.embedded import address


def face_section(face: RestoredFace, no_identity: UserError | None, *, with_pictures: bool) -> str:
    """Everything about a face.

    Args:
        no_identity: why faces are not compared, if they are not.
        with_pictures: False leaves the words.
    """
    report = face.report
    pictures = ""
    if with_pictures:
        compared = ComparedPhoto("", {name: address(image) for name, image in face_pictures(face).items()}, "restored")
        pictures = comparison({f"face {report.number}": compared}) + _legend(face)
    return (
        f"<h3>Face {report.number}: {escape(_what(report))}</h3>"
        + bullets("warnings", report.warnings)
        + f"<p>{escape(identity_text(report, no_identity))}</p>"
        + pictures
        + _references(face)
        + f'<p class="dim">{report.seconds:.2f} s{escape(_from_cache(report))}</p>'
    )


def face_pictures(face: RestoredFace) -> dict[str, np.ndarray]:
    """Pictures of a face by name, uint8 (S, S, 3): before, restored, what it drew from, and the references."""
    pictures = {"before": face.before, "restored": face.after}
    shares = face.shares
    if shares is not None:
        pictures["drawn from"] = drawn_from(face.after, shares.drawn)
    for number, reference in enumerate(face.references):
        pictures[f"reference {number + 1}"] = reference
        if shares is not None:
            bright = float(np.quantile(shares.looked_at, 0.99))  # a few cells may have many times as much as any other
            seen = looked_at(reference, shares.looked_at[number], bright)
            pictures[f"reference {number + 1}, looked at"] = seen
    return pictures


def identity_text(report: FaceReport, no_identity: UserError | None) -> str:
    """Whether the face became more like the person."""
    before, after = report.similarity_before, report.similarity_after
    if before is not None and after is not None:
        to = f"the references of {report.person}" if report.person else "the most similar person, who was not used"
        noise = f", within the network's noise of {LOWERED}" if before - LOWERED <= after < before else ""
        return f"Similarity to {to}: {before:.2f} before, {after:.2f} restored ({after - before:+.2f}{noise})."
    if not report.person:
        return "No references, so there is nobody to compare the face with."
    return f"Identity was not compared: {no_identity}" if no_identity else "Identity was not compared."


def _what(report: FaceReport) -> str:
    if report.action == "with references":
        return f"{report.person} with {report.num_references} reference{'s' * (report.num_references != 1)}"
    return f"restored without references ({report.reason})"


def _from_cache(report: FaceReport) -> str:
    found, computed = report.cache.found, report.cache.computed
    return f"; references: {found} from the cache, {computed} computed" if found or computed else ""


def _legend(face: RestoredFace) -> str:
    if face.shares is None:
        return '<p class="dim">No references were used, so no region drew from one.</p>' if not face.references else ""
    entries = "".join(
        f"<span>{_swatch(number)} reference {number + 1}: {share:.0%}</span>"
        for number, share in enumerate(face.shares.total.tolist())
    )
    own = 1 - float(face.shares.total.sum())
    entries += f"<span>the photo itself: {own:.0%}</span>" if own > 0.005 else ""
    return f'<p class="legend">{entries}</p>'


def _references(face: RestoredFace) -> str:
    """Every photo of the person with why it was used or not."""
    references = face.report.references
    if not references:
        return ""
    used = [reference for reference in references if reference.used]
    rows = "".join(_reference(one, number if face.references else None) for number, one in enumerate(used))
    rows += "".join(_reference(one, None) for one in references if not one.used)
    heads = ("", "photo", "", "score", "similarity", "why")
    head = "".join(f"<th>{name}</th>" for name in heads)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return f'<div class="scroll references">{table}</div>'


def _reference(reference: ReferenceReport, number: int | None) -> str:
    """A row; ``number`` of those that were used."""
    mark = "" if number is None else f"{_swatch(number)} {number + 1}"
    reason = reference.reason.replace(reference.name, Path(reference.name).name)
    word = "not used" if not reference.used else "chosen" if number is None else "used"
    return (
        f'<tr><td>{mark}</td><th scope="row">{escape(Path(reference.name).name)}</th><td>{word}</td>'
        f"<td>{_number(reference.score)}</td><td>{_number(reference.similarity)}</td>"
        f'<td class="why">{escape(reason)}</td></tr>'
    )


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _swatch(number: int) -> str:
    return f'<i class="swatch" style="background: rgb{colour(number)}"></i>'
