"""The evidence for a restoration as one HTML file, with the pictures in it:

restorer = Restorer.from_pretrained("runs/quickstart")
page = ReportPage(restorer, checkpoint="runs/quickstart")
page.add(restorer.restore("old.jpg", "anna/", attention=True))
page.write("report.html")
"""

from __future__ import annotations

from datetime import datetime
from html import escape
from pathlib import Path

import cv2
import numpy as np

from lit_restore.image import atomic_path
from lit_restore.inference.about import about
from lit_restore.inference.report import FaceReport
from lit_restore.inference.report_face import face_section
from lit_restore.inference.restored import RestoredPhoto
from lit_restore.inference.restorer import Restorer
from lit_restore.pages.document import ComparedPhoto, bullets, comparison, document
from lit_restore.pages.embedded import address

MAX_SHOWN_PX = 1400
"""Whole photos are shown no larger than this; faces in the resolution they were restored in."""
MAX_WITH_PICTURES = 40
"""So many photos of a folder are shown, the others have their words: a page of gigabytes opens nowhere."""
HOW_TO_READ = (
    "“Drawn from” has the colour of the reference in which most of the attention lay, paler where others had a part. "
    "The shares are those of the whole face: the mean of all heads and layers of the decoder in the pass that restored "
    "it. “Looked at” is bright where the attention lay in a reference."
)
RESTORED, LEFT = (40, 170, 90), (200, 120, 0)
STYLE = (Path(__file__).resolve().parent / "report_page.css").read_text(encoding="utf-8")


class ReportPage:
    """Collects restored photos and shows them on one page.

    Args:
        restorer: whose work it is.
        checkpoint: what to call it.
    """

    def __init__(self, restorer: Restorer, *, checkpoint: str | Path) -> None:
        self.restorer = restorer
        self._about = {"checkpoint": str(checkpoint)}
        self._sections: list[str] = []
        self._warnings: list[str] = []
        self._skipped: dict[str, str] = {}
        self._has_shares = False
        self._seconds = 0.0

    def add(self, photo: RestoredPhoto) -> None:
        """Take a restored photo; what it needs of it is copied."""
        with_pictures = len(self._sections) < MAX_WITH_PICTURES
        name = Path(photo.report.name).name
        for face in photo.report.faces:
            self._warnings += [f"{name}, face {face.number}: {text}" for text in face.warnings]
        self._sections.append(_photo(photo, self.restorer, with_pictures=with_pictures))
        self._has_shares |= any(face.shares is not None for face in photo.faces)
        self._seconds += photo.report.seconds

    def skip(self, name: str, reason: str) -> None:
        """Take a photo that was not restored."""
        self._skipped[name] = reason

    def html(self) -> str:
        """The page."""
        count = len(self._sections)
        remarks = [f"{name} was skipped: {reason}" for name, reason in self._skipped.items()]
        if count > MAX_WITH_PICTURES:
            remarks.append(f"Only the first {MAX_WITH_PICTURES} photos are shown with pictures.")
        made = self._about | about(self.restorer)
        body = (
            f"<h1>{count} restored photo{'s' * (count != 1)}</h1>"
            f'<p class="dim">Made by lit_restore, {datetime.now():%Y-%m-%d %H:%M}, in {self._seconds:.1f} s. '
            "A restored face is a likely one, not evidence of what somebody looked like.</p>"
            + (f'<p class="dim">{HOW_TO_READ}</p>' if self._has_shares else "")
            + bullets("warnings", self._warnings)
            + bullets("remarks", remarks)
            + "".join(self._sections)
            + "<h2>How it was made</h2>"
            + _values(made)
        )
        return document("lit_restore: restored photos", body, STYLE)

    def write(self, path: str | Path) -> None:
        """Write the page as a file.

        Raises:
            UserError: it cannot be written.
        """
        with atomic_path(path) as temporary:
            temporary.write_text(self.html(), encoding="utf-8")


def _photo(photo: RestoredPhoto, restorer: Restorer, *, with_pictures: bool) -> str:
    report = photo.report
    whole = ""
    if with_pictures and not photo.is_crop:
        pictures = {name: address(image) for name, image in whole_pictures(photo).items()}
        whole = comparison({"photo": ComparedPhoto("", pictures, "restored")})
    settings = {name.replace("_", " "): str(value) for name, value in report.settings.items()}
    times = {"seconds": f"{report.seconds:.2f}"}
    times |= {f"seconds, face {face.number}": f"{face.seconds:.2f}" for face in report.faces if face.action != "left"}
    assumed: dict[str, list[str]] = {}
    for name, why in report.taken_as_aligned.items():
        assumed.setdefault(why, []).append(Path(name).name)
    return (
        f'<section class="photo"><h2>{escape(Path(report.name).name)}</h2>'
        f'<p class="dim">{report.size[0]} x {report.size[1]} px; {report.num_restored} of {len(report.faces)} '
        f"face{'s' * (len(report.faces) != 1)} restored in {report.seconds:.1f} s; strength "
        f"{settings['strength']}, fidelity {settings['fidelity']}, seed {settings['seed']}</p>"
        + bullets("remarks", [f"Taken as aligned faces: {', '.join(names)} ({why})" for why, names in assumed.items()])
        + whole
        + "".join(face_section(face, restorer.no_identity, with_pictures=with_pictures) for face in photo.faces)
        + _left(photo, with_pictures=with_pictures)
        + f"<details><summary>Settings and times</summary>{_values(settings | times)}</details></section>"
    )


def whole_pictures(photo: RestoredPhoto) -> dict[str, np.ndarray]:
    """Before, restored, and which face is which: uint8 (h, w, 3) each, no larger than `MAX_SHOWN_PX`."""
    before, after = photo.original.rgb, photo.picture.rgb
    scale = min(1.0, MAX_SHOWN_PX / max(before.shape[:2]))
    size = max(1, round(before.shape[1] * scale)), max(1, round(before.shape[0] * scale))
    before, after = (cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in (before, after))
    marked = after.copy()
    thick = max(1, round(max(size) / 400))
    for face in photo.report.faces:
        left, top, right, bottom = (round(edge * scale) for edge in face.box_xyxy)
        colour = LEFT if face.action == "left" else RESTORED
        cv2.rectangle(marked, (left, top), (right, bottom), colour, thick)
        where = left + 2 * thick, max(top, 0) + 12 * thick
        cv2.putText(marked, str(face.number), where, cv2.FONT_HERSHEY_SIMPLEX, 0.45 * thick, colour, thick, cv2.LINE_AA)
    return {"before": before, "restored": after, "faces": marked}


def _left(photo: RestoredPhoto, *, with_pictures: bool) -> str:
    """The faces that were left as they are, and why."""
    faces = [face for face in photo.report.faces if face.action == "left"]
    if not faces:
        return ""
    image = photo.original.rgb if with_pictures else None
    rows = "".join(
        f'<tr><td>{face.number}</td><td>{_thumbnail(image, face)}</td><td class="why">{escape(face.reason)}</td></tr>'
        for face in faces
    )
    return f'<h3>Left as they are</h3><div class="scroll references"><table><tbody>{rows}</tbody></table></div>'


def _thumbnail(image: np.ndarray | None, face: FaceReport) -> str:
    left, top, right, bottom = (max(0, edge) for edge in face.box_xyxy)
    if image is None or not (part := image[top:bottom, left:right]).size:
        return ""
    scale = 96 / max(part.shape[:2])
    size = max(1, round(part.shape[1] * scale)), max(1, round(part.shape[0] * scale))
    return f'<img alt="face {face.number}" src="{address(cv2.resize(part, size, interpolation=cv2.INTER_AREA))}">'


def _values(values: dict[str, str]) -> str:
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(text)}</td></tr>' for name, text in values.items()
    )
    return f'<div class="scroll"><table class="values"><tbody>{rows}</tbody></table></div>'
