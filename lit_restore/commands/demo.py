"""``lit_restore demo``: the page to restore photos with, on this machine."""

from __future__ import annotations

import os
import signal
import tempfile
from importlib.util import find_spec
from pathlib import Path

from lit_restore.commands.arguments import Parser, at_least
from lit_restore.commands.restorer_options import add_restorer_options, load_restorer
from lit_restore.errors import UserError
from lit_restore.quiet import quiet_libraries

LOCAL = "127.0.0.1"

EXAMPLES = """\
A page to upload a photo and good photos of the people in it, to turn the knobs, and to see the restored photo with its
report. Everything happens on this machine: the page is served to it alone, nothing is sent anywhere, and uploads are
deleted when the command ends (what is computed of references stays in the cache; --no-cache).

examples:
  lit_restore demo --checkpoint runs/quickstart
      then open http://127.0.0.1:7860
  lit_restore demo --checkpoint runs/quickstart --host 0.0.0.0 --port 8000
      for everybody who reaches this machine"""


def main(argv: list[str]) -> int:
    """Serve the page until interrupted."""
    options = parser().parse_args(argv[1:])
    if find_spec("gradio") is None:
        raise UserError("the page needs gradio, which is not installed", fix='Run: pip install "lit_restore[demo]"')
    with tempfile.TemporaryDirectory(prefix="lit_restore-demo-") as folder, quiet_libraries():
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # or uploads would stay behind
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        os.environ["GRADIO_TEMP_DIR"] = str(Path(folder) / "uploads")
        restorer = load_restorer(options)
        from lit_restore.demo.page import serve

        serve(restorer, options.checkpoint, host=options.host, port=options.port, folder=Path(folder) / "result")
    return 0


def parser() -> Parser:
    """Of the command."""
    parser = Parser("demo", "A page to restore photos with, on this machine.", EXAMPLES)
    add_restorer_options(parser)
    page = parser.add_argument_group("page")
    page.add_argument("--host", default=LOCAL, help=f"address to serve at (default {LOCAL}: this machine alone)")
    page.add_argument("--port", type=at_least(1), help="default: the first free one from 7860 on")
    return parser
