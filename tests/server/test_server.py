"""The server: what it answers to programs, to strangers, and to too many."""

from __future__ import annotations

import asyncio
import io
import re
import signal
import socket
import sys
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image
from served import Server, encoded, hazy

from ktdn_plugin import cli


def form(name: str, content: bytes, **fields: str) -> tuple[bytes, dict[str, str]]:
    """A form with a file, and its header."""
    parts = [
        f'--cut\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'.encode()
        for key, value in fields.items()
    ]
    head = f'--cut\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
    body = b"".join([*parts, head.encode(), content, b"\r\n--cut--\r\n"])
    return body, {"Content-Type": "multipart/form-data; boundary=cut"}


def wait_for(server: Server, *ids: str) -> list[dict]:
    for _ in range(400):
        states = server.call("GET", "/photos?" + "&".join(f"id={one}" for one in ids)).json
        if all(one["state"] not in ("waiting", "working") for one in states):
            return states
        time.sleep(0.05)
    raise AssertionError(states)


def test_a_call_returns_what_the_network_makes(server, expected) -> None:
    pixels = hazy(1)
    answer = server.dehaze(encoded(pixels), f"strength=0.7&name={quote('über/Straße.png')}")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "image/png"
    assert (
        f"filename*=utf-8''{quote('Straße_dehazed.png')}" in answer.headers["Content-Disposition"]
    )
    assert np.array_equal(answer.pixels, expected(pixels, 0.7))
    body, headers = form("a.png", encoded(pixels), strength="1.5", format="webp")
    answer = server.call("POST", "/dehaze?strength=0.2", body, headers)
    assert answer.headers["Content-Type"] == "image/webp"
    assert np.abs(answer.pixels - expected(pixels, 1.5).astype(int)).mean() < 3
    assert server.becomes_empty()


def test_metadata_is_kept_and_a_photo_stands_upright(server, expected) -> None:
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "Camera", 6
    content = encoded(hazy(2), "JPEG", exif=exif, quality=95)
    answer = server.dehaze(content, "quality=80&name=a.JPEG")
    assert answer.headers["Content-Disposition"] == 'attachment; filename="a_dehazed.jpeg"'
    with Image.open(io.BytesIO(answer.body)) as image:
        assert image.size == (48, 64)
        assert (image.getexif()[0x010F], image.getexif().get(0x0112, 1)) == ("Camera", 1)


def test_what_could_not_be_kept_is_said(server) -> None:
    rgba = np.dstack([hazy(3), np.full((48, 64), 128, np.uint8)])
    answer = server.dehaze(encoded(rgba), "format=jpg")
    assert (answer.status, answer.headers["X-Notes"]) == (200, "JPEG has no room for alpha")


PNG = encoded(hazy(4))


@pytest.mark.parametrize(
    ("content", "query", "status", "said"),
    [
        (b"", "", 422, "the body is empty"),
        (b"root:x:0:0", "name=passwd.png", 415, "passwd.png: not a readable image"),
        (encoded(hazy(4), "ICO"), "name=a.png", 415, "a.png: not a readable image, but an icon"),
        (PNG[: len(PNG) // 2], "name=cut.png", 422, "cut.png: not a readable image, but a trunc"),
        (encoded(np.zeros((500, 900, 3), np.uint8)), "", 413, "has 0.5 megapixels"),
        (bytes(1_000_001), "", 413, "too large: this server takes files of at most 1MB"),
        (PNG, "strength=3", 422, "strength: "),
        (PNG, "strength=nan", 422, "strength: "),
        (PNG, "format=gif", 422, "format: "),
        (PNG, "quality=0", 422, "quality: "),
        (PNG, "quality=80", 422, "quality: the result is a PNG"),
        (PNG, "strenght=1", 422, "strenght: "),
    ],
)
def test_bad_input(server, content: bytes, query: str, status: int, said: str) -> None:
    answer = server.dehaze(content, query)
    assert (answer.status, said in answer.line) == (status, True), answer
    assert server.becomes_empty()


def test_a_form_with_bad_input(server) -> None:
    for name, content, fields, status, said in (
        ("a.png", PNG, {"strength": "x"}, 422, "strength: "),
        ("a.png", bytes(1_000_001), {}, 413, "too large"),
        ("a.png", bytes(2_000_000), {}, 413, "too large"),
        ("a.png", b"", {}, 422, "file: is empty"),
    ):
        body, headers = form(name, content, **fields)
        answer = server.call("POST", "/dehaze", body, headers)
        assert (answer.status, answer.line[: len(said)]) == (status, said)
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    assert server.call("POST", "/archive", b"x=1", headers).status == 422


def test_too_large_is_said_while_it_is_sent(server) -> None:
    """Also of a body whose length is not told beforehand."""
    sent = 0

    def endless():
        nonlocal sent
        while sent < 40_000_000:
            sent += 100_000
            yield bytes(100_000)

    answer = server.call("POST", "/dehaze", endless())
    assert (answer.status, answer.line) == (
        413,
        "too large: this server takes files of at most 1MB",
    )
    with socket.create_connection(server.netloc.split(":")) as plain:
        head = f"POST /dehaze HTTP/1.1\r\nHost: {server.netloc}\r\nExpect: 100-continue\r\n"
        plain.sendall(f"{head}Content-Length: 60000000\r\n\r\n".encode())
        assert plain.recv(100).startswith(b"HTTP/1.1 413")
    assert server.becomes_empty()


@pytest.mark.parametrize(
    "path",
    ["/../../../etc/passwd", "/page.css/../app.py", "/photos/../../etc/passwd", "/app.py",
     "/photos/%2e%2e%2f%2e%2e%2fetc/before", "/static//etc/passwd", "/docs", "/redoc"],
)  # fmt: skip
def test_no_file_of_the_machine_can_be_asked_for(server, path: str) -> None:
    assert server.call("GET", path).status in (404, 405)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Host": "localhost.evil.example:80"}, 421),
        ({"Host": "192.168.1.2"}, 421),
        ({"Host": ""}, 421),
        ({"Host": "localhost:1", "Origin": "http://localhost:1"}, 422),
        ({"Host": "[::1]:1"}, 422),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
    ],
)
def test_other_hosts_and_sites(server, headers: dict[str, str], status: int) -> None:
    answer = server.dehaze(b"", **headers)
    assert answer.status == status
    assert answer.line


def test_names_that_a_server_for_a_network_knows() -> None:
    from ktdn_plugin.server.guard import Guard, host_of

    guard = Guard(None, "0.0.0.0", ["haze.example.org"], 1)
    known = ("192.168.1.2:80", "[fe80::1]", "Haze.example.org", socket.gethostname(), "localhost")
    assert [name for name in known if not guard._knows(host_of(name))] == []
    assert not guard._knows(host_of("evil.example"))


def test_a_stalled_upload_is_not_waited_for(monkeypatch) -> None:
    from starlette.exceptions import HTTPException

    from ktdn_plugin.server import guard

    monkeypatch.setattr(guard, "SECONDS_BETWEEN_CHUNKS", 0.05)
    with pytest.raises(HTTPException) as raised:
        asyncio.run(guard._Body(lambda: asyncio.sleep(9), 1, 1).receive())
    assert raised.value.status_code == 408


def test_the_page_asks_nobody_else(server) -> None:
    page = server.call("GET", "/")
    assert page.status == 200
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    texts = [page.body, *(server.call("GET", f"/page.{one}").body for one in ("css", "js"))]
    elsewhere = re.findall(r"""(?:https?:|["'(])//[\w.]+""", b"".join(texts).decode())
    assert set(elsewhere) <= {"http://www.w3.org"}
    health = server.call("GET", "/healthz").json
    assert (health["status"], health["max_queue"]) == ("ok", 8)
    document = server.call("GET", "/openapi.json").json
    assert set(document["paths"]) == {"/dehaze", "/healthz"}
    call = document["paths"]["/dehaze"]["post"]
    assert {"200", "413", "415", "422", "429"} <= set(call["responses"])
    assert "multipart/form-data" in call["requestBody"]["content"]


def test_photographs_of_the_page(server, expected) -> None:
    names = ["../../etc/a.png", "..\\a.png", "/a.PNG", 'C:\\x\\con.png\r\nX: 1"<b>', "damaged.png"]
    contents = [*(encoded(hazy(number)) for number in range(4)), PNG[:-400]]
    added = [
        server.call("POST", f"/photos?name={quote(name)}", content)
        for name, content in zip(names, contents, strict=True)
    ]
    ids = [one.json["id"] for one in added]
    assert [one.status for one in added] == [201] * 5
    assert all(len(one) >= 24 for one in ids)
    *states, failed = wait_for(server, *ids)
    assert [one["state"] for one in states] == ["done"] * 4
    assert (failed["state"], failed["problem"][:33]) == (
        "failed",
        "damaged.png: not a readable image",
    )
    for look, pixels in (("before", hazy(0)), ("after", expected(hazy(0)))):
        seen = server.call("GET", f"/photos/{ids[0]}/{look}").pixels
        assert np.abs(seen.astype(int) - pixels).mean() < 3
    for strength in (0, 0.5, 1, 1.5, 2):
        result = server.call("GET", f"/photos/{ids[0]}/result?strength={strength}")
        assert np.array_equal(result.pixels, expected(hazy(0), strength))
    fields = "&".join(f"photo={one}%3A{number / 2}" for number, one in enumerate(ids))
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    archive = server.call("POST", "/archive", fields, headers)
    with zipfile.ZipFile(io.BytesIO(archive.body)) as unpacked:
        assert unpacked.testzip() is None
        found = unpacked.namelist()
        assert found[:3] == ["etc/a_dehazed.png", "a_dehazed.png", "a_dehazed-2.png"]
        assert all(Path(name).suffix in (".png", ".txt") and ".." not in name for name in found)
        assert b"damaged.png" in unpacked.read(found[-1])
        pixels = np.asarray(Image.open(unpacked.open("a_dehazed.png")))
        assert np.array_equal(pixels, expected(hazy(1), 0.5))
    assert server.files() != []
    assert server.call("DELETE", "/photos?" + "&".join(f"id={one}" for one in ids)).status == 204
    assert server.becomes_empty()
    assert {one["state"] for one in wait_for(server, *ids)} == {"gone"}
    assert server.call("GET", f"/photos/{ids[0]}/result").status == 404


def test_photographs_are_forgotten_in_time(tmp_path, monkeypatch) -> None:
    from concurrent.futures import Future

    from ktdn_plugin.server.storage import Storage, StoredPhoto

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    storage = Storage()
    photos = []
    for age in (0, 100):
        source = Path(storage.new_folder(), "source")
        source.write_bytes(b"x")
        photo = StoredPhoto(type("Source", (), {"path": source})(), None, Future())
        photo.touched -= age
        storage.add(photo)
        photos.append(photo)
    storage.remove_older(50)
    assert storage.size() == 2  # what is still under way is kept
    for photo in photos:
        photo.future.set_result(None)
    storage.remove_older(50)
    assert [storage.get(photo.id) is None for photo in photos] == [False, True]
    storage.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_two_hundred_calls(server, expected) -> None:
    full = []

    def call(number: int) -> bool:
        content = encoded(hazy(number, (40 + number % 5, 56)))
        while (answer := server.dehaze(content, "strength=1.2")).status == 429:
            full.append(answer.line)
            time.sleep(int(answer.headers["Retry-After"]))
        assert answer.status == 200, answer.body
        return np.array_equal(answer.pixels, expectations[number])

    expectations = [expected(hazy(one, (40 + one % 5, 56)), 1.2) for one in range(200)]
    with ThreadPoolExecutor(16) as threads:
        assert all(threads.map(call, range(40)))  # until all that is made once has been made
        before = server.resident
        assert all(threads.map(call, range(40, 200)))
    assert full
    assert server.resident - before < 40e6
    assert server.becomes_empty()
    assert server.call("GET", "/healthz").json["queue"] == 0


@pytest.mark.slow
def test_an_interruption_leaves_nothing(tmp_path) -> None:
    server = Server(tmp_path, "--max-pixels", "20000000")
    large = encoded(hazy(1, (1000, 1400)), "JPEG")
    answers: list[int] = []
    threads = [
        threading.Thread(target=lambda: answers.append(server.dehaze(large).status))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    while server.call("GET", "/healthz").json["queue"] < 3:
        time.sleep(0.02)
    time.sleep(0.2)
    server.command.send(signal.SIGINT)
    for thread in threads:
        thread.join()
    done = server.command.wait(60)
    assert (done.returncode, done.stderr) == (130, "Interrupted.\n")
    assert 503 in answers
    assert list(server.temporary.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--port", "70000"], "--port 70000: must be 0 to 65535; 0 takes any that is free"),
        (["--host", "203.0.113.9", "--port", "0"], "--host 203.0.113.9: is no address of this"),
        (["--max-upload", "5"], "--max-upload: '5' has no unit"),
        (["--max-queue", "0"], "--max-queue 0: must be at least 1"),
        (["--checkpoint", "ktdn_tini"], "ktdn_tini"),
    ],
)
def test_bad_flags(words: list[str], said: str, capsys) -> None:
    assert cli.main(["serve", *words]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_a_port_that_is_taken(server, capsys) -> None:
    port = server.netloc.rpartition(":")[2]
    assert cli.main(["serve", "--port", port]) == 1
    line = f"error: --port {port}: another program listens there; take another port, or 0"
    assert capsys.readouterr().err.startswith(line)


def test_without_the_extra(monkeypatch, capsys) -> None:
    for name in [one for one in sys.modules if one.startswith(("ktdn_plugin.server", "fastapi"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "fastapi", None)
    assert cli.main(["serve"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "ktdn serve needs fastapi: pip install" in line
