"""The page of ``lit_restore demo``: a photo and good photos of the people in it, restored in the browser."""
