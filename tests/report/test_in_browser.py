"""The page in Chromium: what moves, what is readable, and that it asks for nothing."""

from __future__ import annotations

import base64
import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ktdn_plugin.cli import main

pytest.importorskip("selenium", reason="selenium is not installed")

from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

COLOURS = {"hazy": (200, 200, 205), "dehazed": (200, 60, 40), "clear": (170, 30, 40)}


@pytest.fixture
def page(browser, project, monkeypatch, capsys) -> Any:
    """A page with photographs, a table and curves, open in the browser."""
    monkeypatch.chdir(project.root)
    project.training(pictures=False)
    project.images()
    words = ["experiments/student", "mine", "--gt", "val/clear", "--hazy", "val/hazy"]
    assert main(["report", *words, "-o", "page.html"]) == 0
    capsys.readouterr()
    show(browser, 1280, 800)
    browser.get_log("browser")
    browser.get_log("performance")
    browser.get((project.root / "page.html").as_uri())
    yield browser
    assert browser.get_log("browser") == []
    assert [url for url in requested(browser) if not url.startswith(("data:", "file://"))] == []


def show(browser: Any, width: int, height: int, *, phone: bool = False, **media: str) -> None:
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    touch = {"enabled": phone, "maxTouchPoints": 1}
    browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", touch)
    scheme = {"name": "prefers-color-scheme", "value": media.get("scheme", "light")}
    calm = {"name": "prefers-reduced-motion", "value": "reduce"}  # else scrolling takes its time
    seen = {"media": media.get("media", ""), "features": [scheme, calm]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", seen)


def requested(browser: Any) -> list[str]:
    messages = [json.loads(one["message"])["message"] for one in browser.get_log("performance")]
    return [
        one["params"]["request"]["url"]
        for one in messages
        if one["method"] == "Network.requestWillBeSent"
    ]


def handle_of(page: Any) -> Any:
    return page.find_element(By.CSS_SELECTOR, ".photo [role=slider]")


def at(page: Any) -> int:
    return int(handle_of(page).get_attribute("aria-valuenow"))


def seen_at(page: Any, *shares: float) -> list[str]:
    """Tells which image is seen at shares of the first stage's width."""
    stage = page.find_element(By.CSS_SELECTOR, ".stage")
    page.execute_script(
        "arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", stage
    )
    shot = Image.open(io.BytesIO(base64.b64decode(stage.screenshot_as_base64))).convert("RGB")
    pixels = np.asarray(shot, dtype=float)
    row = pixels[int(0.8 * len(pixels))]  # beneath the knob and the labels
    means = [row[(x := int(share * len(row))) - 4 : x + 4].mean(0) for share in shares]
    return [
        min(COLOURS, key=lambda name: float(np.abs(mean - COLOURS[name]).sum())) for mean in means
    ]


@pytest.mark.parametrize("width", [1280, 320])
def test_images_lie_over_each_other_whole(page, width: int) -> None:
    show(page, width, 800, phone=width == 320)
    boxes = page.execute_script(
        "const box = (one) => Object.values(one.getBoundingClientRect().toJSON()).map(Math.round);"
        "return [...document.querySelectorAll('.stage')].map((stage) => [box(stage), "
        "...[...stage.querySelectorAll('img')].map(box)])"
    )
    assert len(boxes) == 2
    for stage, *images in boxes:
        assert images == [stage] * 4
        assert stage[2] / stage[3] == pytest.approx(96 / 64, rel=0.01)


def test_slider_is_dragged_by_the_mouse(page) -> None:
    assert at(page) == 50
    assert seen_at(page, 0.25, 0.4, 0.6, 0.75) == ["hazy", "hazy", "dehazed", "dehazed"]
    stage = page.find_element(By.CSS_SELECTOR, ".stage")
    width = stage.size["width"]
    drag = ActionChains(page).move_to_element(stage).click_and_hold()
    drag.move_by_offset(int(-0.3 * width), 10).release().perform()
    assert at(page) == pytest.approx(20, abs=1)
    assert seen_at(page, 0.1, 0.3, 0.4, 0.75) == ["hazy", "dehazed", "dehazed", "dehazed"]
    # Let go, it stays.
    ActionChains(page).move_by_offset(50, 0).perform()
    assert at(page) == pytest.approx(20, abs=1)


def test_slider_is_moved_by_keys(page, project) -> None:
    handle = handle_of(page)
    page.execute_script("arguments[0].focus()", handle)
    for key, place in (
        (Keys.ARROW_RIGHT, 52),
        (Keys.ARROW_UP, 54),
        (Keys.ARROW_LEFT, 52),
        (Keys.ARROW_DOWN, 50),
        (Keys.PAGE_UP, 60),
        (Keys.HOME, 0),
        (Keys.ARROW_LEFT, 0),
        (Keys.END, 100),
    ):
        handle.send_keys(key)
        assert at(page) == place
    first = sorted(project.names)[0]
    assert handle.get_attribute("aria-valuetext") == "100 % hazy, 0 % dehazed"
    assert handle.get_attribute("aria-label") == f"{first}: divider between hazy and dehazed"
    assert (handle.get_attribute("aria-valuemin"), handle.get_attribute("aria-valuemax")) == (
        "0",
        "100",
    )
    assert seen_at(page, 0.1, 0.9) == ["hazy", "hazy"]
    knob = "return getComputedStyle(arguments[0], '::after').outlineStyle"
    assert page.execute_script(knob, handle) == "solid"


def test_slider_is_moved_by_a_finger_which_may_scroll_too(page) -> None:
    show(page, 320, 640, phone=True)
    stage = page.find_element(By.CSS_SELECTOR, ".stage")
    page.execute_script(
        "arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", stage
    )
    box = page.execute_script("return arguments[0].getBoundingClientRect().toJSON()", stage)
    x, y = box["left"] + box["width"] / 2, box["top"] + box["height"] / 2

    def touch(kind: str, *points: tuple[float, float]) -> None:
        where = [{"x": one, "y": other} for one, other in points]
        page.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": where})

    touch("touchStart", (x, y))
    for step in range(1, 6):
        touch("touchMove", (x + 0.06 * step * box["width"], y))
    touch("touchEnd")
    assert at(page) == pytest.approx(80, abs=3)
    before = page.execute_script("return scrollY")
    touch("touchStart", (box["left"] + 20, y))
    for step in range(1, 11):
        touch("touchMove", (box["left"] + 20, y - 12 * step))
    touch("touchEnd")
    assert page.execute_script("return scrollY") > before + 30
    assert at(page) == pytest.approx(80, abs=3)


def test_any_two_images_are_compared(page, project) -> None:
    labels = ["hazy", "dehazed", "clear", "difference"]
    for side in ("left", "right"):
        names = page.find_elements(By.CSS_SELECTOR, f"[name=photo-1-{side}] + span")
        assert [name.text for name in names] == labels
    page.find_element(By.CSS_SELECTOR, "[name=photo-1-right][value=clear]").click()
    assert seen_at(page, 0.25, 0.75) == ["hazy", "clear"]
    # By keys: the native ones of radio buttons.
    page.find_element(By.CSS_SELECTOR, "[name=photo-1-left]:checked").send_keys(Keys.ARROW_RIGHT)
    assert seen_at(page, 0.25, 0.75) == ["dehazed", "clear"]
    # One image on both sides would show nothing: they change places.
    page.find_element(By.CSS_SELECTOR, "[name=photo-1-left][value=clear]").click()
    assert seen_at(page, 0.25, 0.75) == ["clear", "dehazed"]
    page.find_element(By.CSS_SELECTOR, "[name=photo-1-right][value=difference]").click()
    tag = page.find_element(By.CSS_SELECTOR, "#photo-1 .layer.right figcaption")
    assert tag.text == "difference \u00d7 4"
    handle = page.find_element(By.CSS_SELECTOR, "#photo-1 [role=slider]")
    first = sorted(project.names)[0]
    assert handle.get_attribute("aria-label") == f"{first}: divider between clear and difference"
    # The other photograph keeps its own.
    assert page.find_element(By.CSS_SELECTOR, "[name=photo-2-left]:checked").get_attribute(
        "value"
    ) == ("hazy")


def test_numbers_are_those_of_the_csv(page, project) -> None:
    with (project.root / "mine" / "metrics.csv").open(newline="") as file:
        rows = {row["photo"]: row for row in csv.DictReader(file)}
    photos = page.find_elements(By.CSS_SELECTOR, ".photo")
    assert len(photos) == 2
    for photo in photos:
        name = page.execute_script("return arguments[0].querySelector('h3').firstChild.data", photo)
        row = rows[name.strip()]
        for line in photo.find_elements(By.CSS_SELECTOR, ".figures tbody tr"):
            stage = line.find_element(By.TAG_NAME, "th").text
            cells = line.find_elements(By.TAG_NAME, "td")
            assert cells[0].text == f"{float(row[f'{stage}_psnr']):.2f} dB"
            assert cells[1].text == f"{float(row[f'{stage}_ssim']):.3f}"
    table = page.find_element(By.CSS_SELECTOR, "table.results").text
    assert f"{float(rows['mean']['dehazed_psnr']):.2f}" in table
    assert "tiny-val" in table


@pytest.mark.parametrize("width", [320, 390])
def test_phone_needs_no_scrolling_sideways(page, width: int) -> None:
    show(page, width, 640, phone=True)
    assert page.execute_script("return document.documentElement.scrollWidth") == width
    wide = page.execute_script(
        "return [...document.querySelectorAll('body *')].filter((one) => "
        "!one.closest('svg, .scroll, .stage') && one.getBoundingClientRect().right > innerWidth + "
        "0.5).map((one) => one.outerHTML.slice(0, 80))"
    )
    assert wide == []
    sizes = page.execute_script(
        "return [...document.querySelectorAll('p, td, th, label, h1, h2, h3, li, a')].map((one) =>"
        " parseFloat(getComputedStyle(one).fontSize))"
    )
    assert min(sizes) >= 12
    boxes = page.execute_script(
        "return [...document.querySelectorAll('.seg label')].map((one) => one.clientHeight)"
    )
    assert min(boxes) >= 24


def test_dark_and_light(page) -> None:
    lights = []
    for scheme in ("light", "dark"):
        show(page, 1280, 800, scheme=scheme)
        shot = Image.open(io.BytesIO(page.get_screenshot_as_png())).convert("L")
        lights.append(np.asarray(shot)[5, 5])
        contrasts = page.execute_script(CONTRASTS)
        assert min(contrasts.values()) >= 4.5, contrasts
    assert lights[0] > 240
    assert lights[1] < 30


# Contrast of text to the page, as WCAG 2 defines it, for the colours that text has.
CONTRASTS = """
const light = (colour) => {
  const parts = colour.match(/[\\d.]+/g).slice(0, 3).map((part) => part / 255);
  const linear = parts.map(
    (part) => part <= .04045 ? part / 12.92 : ((part + .055) / 1.055) ** 2.4);
  return .2126 * linear[0] + .7152 * linear[1] + .0722 * linear[2];
};
const paper = light(getComputedStyle(document.body).backgroundColor);
const found = {};
for (const one of document.querySelectorAll('h1, h2, h3, p, td, th, li, a, caption, .which')) {
  if (one.closest('.stage')) continue;
  const ink = light(getComputedStyle(one).color);
  const [low, high] = [ink, paper].sort((a, b) => a - b);
  found[one.tagName + '.' + one.className] = (high + .05) / (low + .05);
}
return found;
"""


def visible_layers(page: Any) -> list[list[float]]:
    return page.execute_script(
        "return [...document.querySelectorAll('#photo-1 .layer')].filter((one) => "
        "getComputedStyle(one).visibility === 'visible').map((one) => { const box = "
        "one.getBoundingClientRect(); return [box.left, box.top, box.width]; })"
    )


def test_print_shows_all_images_side_by_side(page) -> None:
    assert len(visible_layers(page)) == 2
    show(page, 1000, 1200, media="print")
    boxes = visible_layers(page)
    assert len({(left, top) for left, top, _ in boxes}) == 4
    assert min(width for *_, width in boxes) > 100
    shown = "return getComputedStyle(document.querySelector(arguments[0])).display"
    for hidden in (".choices", "[role=slider]", "nav"):
        assert page.execute_script(shown, hidden) == "none"


def test_without_script_all_images_are_shown(page, project: Any) -> None:
    page.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        page.get((Path(project.root) / "page.html").as_uri())
        layers = page.find_elements(By.CSS_SELECTOR, "#photo-1 .layer")
        assert len({(one.location["x"], one.location["y"]) for one in layers}) == 4
        assert all(one.is_displayed() for one in layers)
    finally:
        page.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
