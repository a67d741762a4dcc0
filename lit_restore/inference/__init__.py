"""From photos to restored photos: what ``lit_restore restore`` and a notebook both call."""

from lit_restore.inference.restorer import Notes, Photo, Restorer, find_device, list_photos

__all__ = ["Notes", "Photo", "Restorer", "find_device", "list_photos"]
