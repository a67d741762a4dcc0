"""From photos to restored photos: what ``lit_restore restore`` and a notebook both call."""

from lit_restore.inference.device import find_device
from lit_restore.inference.photo_stream import write_behind
from lit_restore.inference.report import FaceReport, PhotoReport, ReferenceReport
from lit_restore.inference.report_page import ReportPage
from lit_restore.inference.restored import RestoredFace, RestoredPhoto, Settings
from lit_restore.inference.restorer import Restorer
from lit_restore.inference.sources import Photo, list_photos

__all__ = [
    "FaceReport",
    "Photo",
    "PhotoReport",
    "ReferenceReport",
    "ReportPage",
    "RestoredFace",
    "RestoredPhoto",
    "Restorer",
    "Settings",
    "find_device",
    "list_photos",
    "write_behind",
]
