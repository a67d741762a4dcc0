from __future__ import annotations

import pytest

from lit_restore.errors import UserError, nearest


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({}, "not an image"),
        ({"where": "a.png"}, "not an image: a.png"),
        ({"expected": "jpg or png", "found": "gif"}, "not an image; expected jpg or png; found gif"),
        ({"fix": "Convert it."}, "not an image. Convert it."),
        (
            {"where": "a.png", "expected": 3, "found": 0, "fix": "Convert it."},
            "not an image: a.png; expected 3; found 0. Convert it.",
        ),
    ],
)
def test_a_message_says_what_where_expected_found_and_what_to_do(parts: dict, message: str) -> None:
    assert str(UserError("not an image", **parts)) == message


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("learning_rat", "Did you mean 'learning_rate'?"),
        ("bathc_size", "Did you mean 'batch_size'?"),
        ("xyz", "Known: batch_size, learning_rate."),
    ],
)
def test_nearest_names_one_word_or_all(word: str, sentence: str) -> None:
    assert nearest(word, ["learning_rate", "batch_size"]) == sentence
