"""The page itself; the only place that knows gradio. It collects uploads and knobs, and shows what `answer` gives."""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from lit_restore.demo.request import Knobs, answer
from lit_restore.demo.uploads import MAX_FILE_MB, add_person
from lit_restore.errors import UserError
from lit_restore.inference import Restorer
from lit_restore.inference.sources import PHOTO_SUFFIXES

# Browsers of visitors ask nobody but this machine, whatever a version of gradio would like to load from elsewhere.
POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; form-action 'self'; frame-ancestors 'self'"
)
SYSTEM_FONTS = {"font": ("system-ui", "sans-serif"), "font_mono": ("ui-monospace", "monospace")}
KEPT_S = 3600
"""Uploads and results older than this are deleted; all of them when the page is closed down."""

INTRODUCTION = """# Restore a photo
Faces of the people you know are restored with the help of good photos of them; everything else stays as it is.
Photos stay on the machine that runs this page."""


def build_page(restorer: Restorer, checkpoint: str, folder: Path) -> gr.Blocks:
    """The page.

    Args:
        restorer: restores for all visitors, one after the other.
        checkpoint: what the report calls it.
        folder: for the latest result.
    """

    def add(people: dict, name: str, photos: list[str] | None) -> tuple[dict, str, str, None]:
        with _shown():
            known = add_person(people, name, photos or [])
        return known, _listed(known), "", None

    def restore(
        photo: str | None, people: dict, references: list[str] | None, strength: float, fidelity: float, *more: Any
    ) -> tuple[str, list[str], str]:
        shutil.rmtree(folder, ignore_errors=True)  # of the last visitor, who has a copy
        folder.mkdir(parents=True)
        max_references, blind_strangers = more
        knobs = Knobs(strength, fidelity, int(max_references), blind_strangers)
        with _shown():
            result = answer(restorer, checkpoint, photo, people, references or [], knobs, folder)
        html = escape(result.report.read_text(encoding="utf-8"), quote=True)
        frame = f'<iframe title="report" sandbox="allow-scripts" srcdoc="{html}"></iframe>'
        return str(result.picture), [str(result.picture), str(result.report)], frame

    kinds = list(PHOTO_SUFFIXES)
    with gr.Blocks(title="lit_restore", analytics_enabled=False, delete_cache=(KEPT_S // 6, KEPT_S)) as page:
        gr.Markdown(INTRODUCTION)
        people = gr.State({})
        with gr.Row():
            with gr.Column():
                photo = gr.File(label="Photo to restore", file_types=kinds, elem_id="photo")
                with gr.Tab("One person"):
                    references = gr.Files(label="Good photos of the person", file_types=kinds, elem_id="references")
                with gr.Tab("Several people"):
                    name = gr.Textbox(label="Name", max_lines=1, elem_id="name")
                    photos = gr.Files(label="Good photos of them", file_types=kinds, elem_id="photos")
                    with gr.Row():
                        add_button = gr.Button("Add person", elem_id="add")
                        forget_button = gr.Button("Forget everybody")
                    listed = gr.Markdown(_listed({}), elem_id="people")
                    strangers = gr.Checkbox(label="Restore faces of others too, without references (--strangers blind)")
            with gr.Column():
                strength = gr.Slider(0, 1, 1.0, step=0.05, label="Strength of the references' identity")
                fidelity = gr.Slider(0, 1, 0.0, step=0.05, label="Fidelity to the photo's coarse shapes and colours")
                number = gr.Slider(0, 8, restorer.max_references, step=1, label="References per face at most")
                button = gr.Button("Restore", variant="primary", elem_id="restore")
                picture = gr.Image(label="Restored", interactive=False, buttons=["fullscreen"], elem_id="picture")
                files = gr.Files(label="Picture and report to keep", interactive=False, elem_id="files")
        report = gr.HTML(elem_id="report")
        quiet = {"api_visibility": "private", "concurrency_id": "restorer", "concurrency_limit": 1}
        add_button.click(add, [people, name, photos], [people, listed, name, photos], **quiet)
        forget_button.click(lambda: ({}, _listed({})), None, [people, listed], **quiet)
        knobs = [strength, fidelity, number, strangers]
        button.click(restore, [photo, people, references, *knobs], [picture, files, report], **quiet)
    return page


def serve(restorer: Restorer, checkpoint: str, *, host: str, port: int | None, folder: Path) -> None:
    """Show the page until interrupted.

    Args:
        host: address to listen at.
        port: None = the first free one from 7860 on.
        folder: for results.

    Raises:
        UserError: the address or port cannot be had.
    """
    page = build_page(restorer, checkpoint, folder)
    try:
        _, address, _ = page.launch(
            server_name=host,
            server_port=port,
            share=False,
            prevent_thread_lock=True,
            quiet=True,
            ssr_mode=False,
            max_file_size=f"{MAX_FILE_MB}mb",
            footer_links=[],
            theme=gr.themes.Default(**SYSTEM_FONTS),
            css="#report iframe { width: 100%; height: 85vh; border: 0; }",
            app_kwargs={"middleware": [Middleware(_PolicyHeader)]},
        )
    except OSError as error:
        raise UserError("cannot serve the page", where=f"{host}:{port or 'any port'}", found=str(error)) from None
    print(f"Open {address} in a browser; Ctrl+C ends it.", flush=True)
    page.block_thread()


class _shown:
    """Within it a `UserError` becomes the page's red box with the same line."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, UserError):
            raise gr.Error(escape(str(error)), duration=30, print_exception=False) from None


def _listed(people: dict[str, list[Path]]) -> str:
    if not people:
        return "Nobody yet."
    return "\n".join(f"- {escape(name)}: {len(photos)} photos" for name, photos in people.items())


class _PolicyHeader:
    """Adds `POLICY` to every answer (ASGI middleware)."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self.app = app

    async def __call__(self, scope: dict, receive: Callable, send: Callable[[dict], Awaitable[None]]) -> None:
        async def send_with_policy(message: dict) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"content-security-policy", POLICY.encode())]
            await send(message)

        await self.app(scope, receive, send_with_policy)
