"""The page in Chromium: dropping, comparing, choosing a strength, downloading, removing."""

from __future__ import annotations

import base64
import io
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from served import encoded, hazy

pytest.importorskip("selenium", reason="selenium is not installed")

from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

EVIL = "<img src=x onerror=alert(1)>&.png"
DROP = """
const transfer = new DataTransfer();
for (const [name, content] of arguments[0]) {
  const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
  transfer.items.add(new File([bytes], name));
}
for (const kind of ["dragenter", "dragover", "drop"]) {
  const options = {dataTransfer: transfer, bubbles: true, cancelable: true};
  document.getElementById("drop").dispatchEvent(new DragEvent(kind, options));
}
"""
SHOWN = """
const canvas = document.getElementById("after");
const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
return [canvas.width, canvas.height, ...data];
"""


def until(said: Callable[[], Any], seconds: float = 30) -> Any:
    """Waits until something is so."""
    end = time.monotonic() + seconds
    while not (found := said()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return found


@pytest.fixture
def page(browser, server, tmp_path) -> Any:
    show(browser, 1280, 800)
    downloads = {"behavior": "allow", "downloadPath": str(tmp_path / "downloads")}
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", downloads)
    browser.get("about:blank")
    browser.get_log("browser")
    browser.get(server.url)
    yield browser
    said = [one["message"] for one in browser.get_log("browser")]
    assert [one for one in said if "the server responded with a status of 4" not in one] == []
    browser.get("about:blank")  # what is left is removed
    until(lambda: server.files() == [])


def show(browser: Any, width: int, height: int, *, phone: bool = False) -> None:
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    touch = {"enabled": phone, "maxTouchPoints": 1}
    browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", touch)


def choose(page: Any, folder: Path, **files: bytes) -> None:
    """Chooses files as a person would; ``_`` in their names stands for the dot."""
    paths = []
    for name, content in files.items():
        path = folder / name.replace("_", ".")
        path.write_bytes(content)
        paths.append(str(path))
    page.find_element(By.ID, "files").send_keys("\n".join(paths))


def progress(page: Any) -> str:
    return page.find_element(By.ID, "progress-text").text


def is_ready(page: Any) -> bool:
    return "ready" in page.find_element(By.ID, "stage").get_attribute("class")


def shown(page: Any) -> np.ndarray:
    width, height, *values = page.execute_script(SHOWN)
    return np.array(values).reshape(height, width, 4)[..., :3]


def set_strength(page: Any, strength: float) -> None:
    page.execute_script(
        "const one = document.getElementById('strength'); one.value = arguments[0];"
        "one.dispatchEvent(new Event('input', {bubbles: true}))",
        strength,
    )
    stage = page.find_element(By.ID, "stage")
    until(lambda: stage.get_attribute("data-strength") == f"{strength:g}")


def downloaded(folder: Path, name: str) -> Path:
    path = folder / "downloads" / name
    until(lambda: path.is_file() and path.stat().st_size)
    return path


def test_choose_compare_and_download(page, tmp_path, expected) -> None:
    pixels = hazy(5)
    choose(page, tmp_path, a_png=encoded(pixels))
    until(lambda: is_ready(page))
    assert progress(page) == "1 of 1 dehazed"
    plain = shown(page)
    assert np.abs(plain - expected(pixels)).mean() < 3
    # Strength is seen at once: hazy + strength (dehazed - hazy), of what the page has.
    set_strength(page, 0)
    before = shown(page)
    assert np.abs(before - pixels.astype(int)).mean() < 3
    set_strength(page, 1.5)
    assert np.abs(shown(page) - np.clip(before + 1.5 * (plain - before), 0, 255)).max() <= 1
    assert "computed by the network at full size" in page.find_element(By.ID, "truth").text
    # What is downloaded is not what the page has blended, but what the network makes.
    page.find_element(By.ID, "download").click()
    result = np.asarray(Image.open(downloaded(tmp_path, "a_dehazed.png")))
    assert np.array_equal(result, expected(pixels, 1.5))


def test_drop_two_a_wrong_one_and_a_huge_one(page, tmp_path, server, expected) -> None:
    files = [
        (EVIL, encoded(hazy(1))),
        ("b.jpg", encoded(hazy(2), "JPEG")),
        ("notes.txt", b"no photograph"),
        ("huge.png", bytes(1_000_001)),
        ("large.png", encoded(np.zeros((700, 700, 3), np.uint8))),
    ]
    page.execute_script(DROP, [(name, base64.b64encode(one).decode()) for name, one in files])
    until(lambda: progress(page) == "2 of 5 dehazed, 3 failed")
    assert page.find_element(By.ID, "name").text == EVIL
    items = page.find_elements(By.CSS_SELECTOR, "#list button")
    assert [one.get_attribute("aria-label").rpartition(", ")[::2] for one in items] == [
        (name, "dehazed" if number < 2 else "failed") for number, (name, _) in enumerate(files)
    ]
    for number, said in (
        (2, "notes.txt: not a readable image (none of"),
        (3, "huge.png: is larger than 1MB, which is the most this server takes"),
        (4, "large.png: has 0.5 megapixels; this server takes at most 0.4"),
    ):
        items[number].click()
        assert page.find_element(By.ID, "message").text.startswith(said)
        assert not page.find_element(By.ID, "download").is_displayed()
    items[1].click()
    until(lambda: is_ready(page))
    set_strength(page, 0.5)
    page.find_element(By.ID, "for-all").click()
    page.find_element(By.ID, "download-all").click()
    content = downloaded(tmp_path, "dehazed.zip").read_bytes()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.namelist() == ["_img src=x onerror=alert(1)_&_dehazed.png", "b_dehazed.jpg"]
        with archive.open(archive.namelist()[0]) as file:
            assert np.array_equal(np.asarray(Image.open(file)), expected(hazy(1), 0.5))
    page.find_element(By.ID, "remove-all").click()
    until(lambda: server.files() == [])
    assert not page.find_element(By.ID, "work").is_displayed()


def choose_folder(page: Any, folder: Path) -> None:
    page.find_element(By.ID, "folder").send_keys(str(folder))


def drop_folder(page: Any, folder: Path) -> None:
    """Drops a folder of this machine, as from a file manager."""
    drag = {"items": [], "files": [str(folder)], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        event = {"type": kind, "x": 300, "y": 300, "data": drag}
        page.execute_cdp_cmd("Input.dispatchDragEvent", event)


@pytest.mark.parametrize("give", [choose_folder, drop_folder])
def test_a_folder_with_other_files(page, tmp_path, give: Callable[[Any, Path], None]) -> None:
    folder = tmp_path / "walk"
    for name in ("one.png", "deeper/two.png", "notes.txt", ".hidden"):
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_bytes(encoded(hazy(7)) if name.endswith("png") else b"text")
    give(page, folder)
    until(lambda: progress(page) == "2 of 2 dehazed")
    notice = page.find_element(By.ID, "notices").text
    assert "Left out, as no photographs that are read here: 1 (notes.txt)" in notice
    page.find_element(By.ID, "download-all").click()
    with zipfile.ZipFile(downloaded(tmp_path, "dehazed.zip")) as archive:
        names = {"walk/one_dehazed.png", "walk/deeper/two_dehazed.png"}
        assert set(archive.namelist()) == names


def test_divider_is_moved_by_keys_and_mouse(page, tmp_path) -> None:
    choose(page, tmp_path, a_png=encoded(hazy(5)))
    until(lambda: is_ready(page))
    stage, divider = (page.find_element(By.ID, one) for one in ("stage", "divider"))
    style = "return arguments[0].style.getPropertyValue('--at')"
    at = lambda: float(page.execute_script(style, stage).rstrip("%"))  # noqa: E731
    assert at() == 50
    for key, place in ((Keys.ARROW_RIGHT, 52), (Keys.ARROW_LEFT, 50), (Keys.HOME, 0)):
        divider.send_keys(key)
        assert at() == place
    assert divider.get_attribute("aria-valuetext") == "0 % hazy, 100 % dehazed"
    width = stage.size["width"]
    ActionChains(page).move_to_element_with_offset(stage, int(0.2 * width), 5).click().perform()
    assert at() == pytest.approx(70, abs=1)


def test_all_that_is_used_has_a_name(page, tmp_path) -> None:
    choose(page, tmp_path, a_png=encoded(hazy(5)), b_png=encoded(hazy(6)))
    until(lambda: is_ready(page))
    nodes = page.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    used = [
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in nodes
        if node.get("role", {}).get("value") in ("button", "slider", "combobox", "img", "image")
        and not node["ignored"]
    ]
    assert [role for role, name in used if not name] == []
    names = {name for _, name in used}
    assert {"Strength", "Format", "Download", "a.png, dehazed"} <= names
    assert "Divider between hazy and dehazed" in names


@pytest.mark.parametrize("width", [320, 390])
def test_a_phone_scrolls_down_only(page, tmp_path, width: int) -> None:
    show(page, width, 844, phone=True)
    wide = "return document.documentElement.scrollWidth"
    assert page.execute_script(wide) == width
    choose(page, tmp_path, **{f"{'long' * 20}_png": encoded(hazy(5)), "b_png": encoded(hazy(6))})
    until(lambda: is_ready(page))
    assert page.execute_script(wide) == width
    assert page.find_element(By.ID, "download").is_displayed()
    assert not page.find_element(By.ID, "folder").is_displayed()
