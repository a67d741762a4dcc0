"""Model folders on the Hugging Face hub: which names mean one, fetching it, and putting one there.

    owner/name            the repository's main branch
    owner/name@revision   a branch, tag or commit of it
    hf://owner/name       the same, also where a folder called ``owner`` is at hand

What exists on this machine is always a path. What does not is one as well, misspelt, where its first folder exists;
only the rest is asked for on the hub.
"""

from __future__ import annotations

import difflib
from pathlib import Path

from lit_restore.errors import UserError
from lit_restore.models.base import is_hub_id

PREFIX = "hf://"
CARD = "README.md"
EXPECTED = "a model folder, a run folder, a .ckpt file, or owner/name on the hub"

_FILES = ("config.json", "unet/adapter_*", "vae/adapter_*")
_PATTERNS = [*_FILES, *(f"model/{name}" for name in _FILES)]  # somebody may have uploaded a whole run
_RUNS = "runs"
"""Where trainings are kept in every example: nobody means a hub repository by it."""
_FILE_SUFFIXES = (".ckpt", ".safetensors", ".pt", ".pth", ".bin", ".json", ".yaml")


def fetch_model(source: str) -> Path:
    """The local copy of a model that is not at hand, brought up to date where the hub can be reached.

    Args:
        source: a hub id, or a path that does not exist.

    Raises:
        UserError: it is a misspelt path, the hub does not know it, or cannot be reached and there is no copy.
    """
    hub_id, _, revision = source.removeprefix(PREFIX).partition("@")
    owner = hub_id.split("/")[0]
    could_be_one = is_hub_id(hub_id) and not hub_id.lower().endswith(_FILE_SUFFIXES)
    taken = not source.startswith(PREFIX) and (owner == _RUNS or Path(owner).exists())
    if taken or not could_be_one:
        raise _no_such_path(source, owner if could_be_one else None)
    return _download(source, hub_id, revision or None)


def upload_model(
    folder: Path,
    repo_id: str,
    *,
    parts: tuple[str, ...],
    private: bool | None,
    commit_message: str,
    revision: str | None,
) -> str:
    """Put a model folder on the hub as one commit; the repository is made if it is not there.

    A model card that the repository has already is kept: people write in it.

    Args:
        folder: ``config.json``, a folder per part and the model card.
        repo_id: ``owner/name``, or a name under the account of who is logged in.
        parts: folders of which nothing older is left behind.
        private: of a new repository; None = as the account does it.
        revision: branch, made if it is not there; None = main.

    Returns:
        address of the commit.

    Raises:
        UserError: nobody is logged in, may not write there, or the hub cannot be reached.
    """
    from huggingface_hub import HfApi

    api = HfApi(library_name="lit_restore")
    try:
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        if revision is not None:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        has_card = api.file_exists(repo_id, CARD, revision=revision)
        commit = api.upload_folder(
            repo_id=repo_id,
            folder_path=folder,
            commit_message=commit_message,
            revision=revision,
            ignore_patterns=[CARD] if has_card else None,
            delete_patterns=[f"{part}/*" for part in parts],
        )
    except Exception as error:  # what the client raises depends on the version of the library it speaks HTTP with
        raise UserError(
            "the model could not be put on the hub",
            where=repo_id,
            found=_first_line(error),
            fix="Log in with an account that may write there (`hf auth login`) and check the network; "
            "save_pretrained writes the same files to a folder.",
        ) from None
    return str(commit.commit_url)


def _download(source: str, hub_id: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        return Path(snapshot_download(hub_id, revision=revision, allow_patterns=_PATTERNS))
    except GatedRepoError:
        fix = f"Ask for it at https://huggingface.co/{hub_id}, then `hf auth login`."
        raise UserError("this model is only given on request", where=source, fix=fix) from None
    except RepositoryNotFoundError:
        raise UserError(
            "no such checkpoint",
            where=source,
            expected=EXPECTED,
            found=f"nothing of this name in {Path.cwd()}, and the hub knows none, or a private one",
            fix="Check the spelling; a private one needs `hf auth login` first.",
        ) from None
    except RevisionNotFoundError:
        raise UserError(
            "no such revision of this model", where=source, expected="a branch, tag or commit", found=revision
        ) from None
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise UserError(
            "no such file or folder, and the model hub cannot be reached",
            where=source,
            found=f"nothing of this name in {Path.cwd()}, no copy in {HF_HUB_CACHE}, {type(error).__name__}",
            fix="Check the spelling of a path; a model of the hub can be downloaded where there is a network "
            f"(`hf download {hub_id} --local-dir FOLDER`) and given as FOLDER.",
        ) from None


def _no_such_path(source: str, folder: str | None) -> UserError:
    """Args: folder: what makes it a path although it could be a hub id."""
    path = Path(source)
    near = _nearest_entry(path)
    if near is not None:
        fix = f"Did you mean {near}?"
    elif folder not in (None, _RUNS):
        fix = f"'{folder}' is a folder here, so this is a path; the hub's model is {PREFIX}{source}."
    else:
        fix = "Train one with: lit_restore fit --config configs/quickstart.yaml"
    return UserError("no such checkpoint", where=source, expected=EXPECTED, fix=fix)


def _nearest_entry(path: Path) -> Path | None:
    """The entry of the path's folder that is spelt most like it."""
    try:
        known = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return None
    close = difflib.get_close_matches(path.name, known, n=1, cutoff=0.6)
    return path.parent / close[0] if close else None


def _first_line(error: Exception) -> str:
    text = " ".join(str(error).split())[:160].rstrip(". ")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
