"""The page's markup: well-formed, without a network, and deaf to what names hold."""

from __future__ import annotations

import base64
import hashlib
import html
import re


def test_names_are_text_and_never_markup(project, report) -> None:
    evil = project.names[1]
    folder = project.training(evil)
    page, _, _ = report(folder, project.results(), "--title", evil)
    assert evil in html.unescape(page.visible)
    assert len(page.all("script")) == 1
    assert page.all("b") == []
    title = re.search("<title>(.*?)</title>", page.text)
    assert title is not None
    assert html.unescape(title[1]) == evil


def test_page_is_well_formed_and_allows_no_network(project, report) -> None:
    page, _, _ = report(project.training(), project.results())
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [attributes["href"] for attributes in page.all("a")]
    assert all(link[0] == "#" and link[1:] in ids for link in links if not link.startswith("data:"))
    named = {a["aria-labelledby"] for _, a in page.elements if "aria-labelledby" in a}
    assert named <= set(ids)
    # Nothing is styled or run in the markup, and nothing is loaded.
    for tag, attributes in page.elements:
        assert "style" not in attributes
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            assert re.match("#|data:|$", attributes.get(name, "")), (tag, attributes)
    assert not re.search(r"url\((?!\"data:)|@import", page.text)
    (policy,) = (
        one["content"] for one in page.all("meta", **{"http-equiv": "Content-Security-Policy"})
    )
    assert policy.startswith("default-src 'none'; img-src data:; ")
    for tag in ("style", "script"):
        content = re.search(f"<{tag}>(.*?)</{tag}>", page.text, re.S)
        assert content is not None
        digest = base64.b64encode(hashlib.sha256(content[1].encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
