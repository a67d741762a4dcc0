"""Synthetic people: photos without downloads, with exact landmarks and endless identities.

A person is drawn from (seed, identity), a photo from (seed, identity, image); nothing else enters.
"""

from lit_restore.data.synthetic.contact_sheet import contact_sheet
from lit_restore.data.synthetic.identity import person
from lit_restore.data.synthetic.person import Person
from lit_restore.data.synthetic.render import SyntheticFace, render_details, render_face

__all__ = ["Person", "SyntheticFace", "contact_sheet", "person", "render_details", "render_face"]
