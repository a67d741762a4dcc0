"""The page in a browser, end to end. Needs ``pip install gradio playwright`` and a Chromium of the system."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from lit_restore.image import read_rgb, write_image
from lit_restore.inference import Restorer

pytest.importorskip("gradio")
playwright = pytest.importorskip("playwright.sync_api")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(BROWSER is None, reason="no Chromium is there to open the page")]
SECONDS = 1000  # in the browser tool's milliseconds


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for number in range(4):
        image = np.random.default_rng(number).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        write_image(image, folder / f"{number}.png")
    (folder / "text.jpg").write_text("dear diary")
    return folder


@pytest.fixture(scope="module")
def address(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A running page; when it ends, nothing of what was uploaded is left."""
    place = tmp_path_factory.mktemp("temporary")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "lit_restore", "demo", "--checkpoint", model, "--port", port, "--no-cache"]
    environment = {"PATH": "/usr/bin:/bin", "TMPDIR": str(place), "HOME": str(place), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [*map(str, command), "--device", "cpu"], stdout=subprocess.PIPE, text=True, env=environment, cwd=place
    ) as server:
        line = server.stdout.readline()
        assert line == f"Open http://127.0.0.1:{port}/ in a browser; Ctrl+C ends it.\n"
        assert any(place.glob("lit_restore-demo-*"))
        yield f"http://127.0.0.1:{port}/"
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0
    assert not any(place.glob("lit_restore-demo-*"))


def test_upload_restore_and_look(address: str, model: Path, photos: Path, tmp_path: Path) -> None:
    with playwright.sync_playwright() as tool:
        browser = tool.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        page.set_default_timeout(120 * SECONDS)
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        answered = page.goto(address)
        assert "default-src 'self'" in answered.headers["content-security-policy"]

        def give(place: str, *names: str) -> None:
            page.locator(f"#{place} input[type=file]").set_input_files([photos / name for name in names])
            page.locator(f"#{place}").get_by_text(names[-1].split(".")[0], exact=False).first.wait_for()

        give("photo", "text.jpg")
        page.click("#restore")
        page.get_by_text("image cannot be decoded (truncated or not an image): text.jpg; found 10 bytes").wait_for()

        page.locator("#photo button[aria-label='Clear']").click()
        give("photo", "3.png")
        page.get_by_role("tab", name="Several people").click()
        page.locator("#name").get_by_role("textbox").fill("../x")
        give("photos", "0.png", "1.png", "2.png")
        page.click("#add")
        page.get_by_text("not a name: '../x'; found '/'").wait_for()
        page.locator("#name").get_by_role("textbox").fill("Anna")
        page.click("#add")
        page.locator("#people").get_by_text("Anna: 3 photos").wait_for()
        page.click("#restore")
        report = page.frame_locator("#report iframe")
        report.get_by_text("Face 0: Anna with 3 references").wait_for()
        shown = report.locator(".compare .stage img").first
        assert shown.evaluate("image => image.decode().then(() => image.naturalWidth)") == 64
        with page.expect_download() as download:
            page.locator("#files").get_by_role("link").first.click()
        download.value.save_as(tmp_path / "saved.png")
        page.locator("#report").screenshot(path=tmp_path / "report.png")
        browser.close()
    restorer = Restorer.from_pretrained(model, device="cpu", cache=False)
    expected = restorer.restore(photos / "3.png", [photos / f"{number}.png" for number in range(3)]).image
    np.testing.assert_array_equal(read_rgb(tmp_path / "saved.png"), expected)
    assert [url for url in asked if not re.match(rf"{address}|data:|blob:|about:", url)] == []
    assert read_rgb(tmp_path / "report.png").std() > 10  # something is painted there
