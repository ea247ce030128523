"""An image file has the same pixels, or the same error, for whoever reads it, and so the figures.

Where programs disagree, the file's pixels are:

- 16 bit stay 16 bit for dehazing; where 8 are needed, they are rounded, not cut;
- grey, bits and palettes become RGB; of TIFFs whose colours are inverted, as they are meant;
- alpha is left out of RGB, and taken out of colours that it was multiplied into;
- CMYK becomes sRGB; another profile or a gamma changes nothing, for it goes on with the pixels;
- the EXIF orientation is applied, wherever in the file it is;
- of several pictures it is the first; bands beyond the colours are left out.
"""

from __future__ import annotations

import ast
import base64
import csv
import io
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from bad_images import BAD, coded
from odd_images import RGB, odd_images, opencv, saved, smooth, tiff
from PIL import Image
from torch import nn

import ktdn_plugin
from ktdn_plugin.bench.data import read_pair
from ktdn_plugin.checking import check_data
from ktdn_plugin.cli import main
from ktdn_plugin.data.prepare import prepare
from ktdn_plugin.dehaze import dehaze_all
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.inference import Dehazer
from ktdn_plugin.metrics import measure
from ktdn_plugin.photos import decode_photo, decode_rgb, read_photo, read_rgb, read_size, to_8_bit
from ktdn_plugin.scenes.store import Store

Pixels = dict[str, np.ndarray]

# As a stem alone, names of two formats would be one image's.
ODD = {f"{name.replace('.', '-')}{Path(name).suffix}": one for name, one in odd_images().items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("odd")
    for name, (content, _) in ODD.items():
        (folder / name).write_bytes(content)
    return folder


def each(read: Callable[[Path], np.ndarray]) -> Callable[[Path, Path], Pixels]:
    return lambda folder, _: {path.name: read(path) for path in sorted(folder.iterdir())}


def basicsr_dataset(folder: Path, _: Path) -> Pixels:
    ktdn_plugin.register()
    from ktdn_plugin.basicsr.datasets import ClearImageDataset

    dataset = ClearImageDataset({"dataroot_gt": str(folder), "phase": "val", "name": "odd"})
    samples = [dataset[number] for number in range(len(dataset))]
    return {Path(one["gt_path"]).name: of_tensor(one["gt"]) for one in samples}


def mmengine_dataset(folder: Path, _: Path) -> Pixels:
    from ktdn_plugin.mmengine.datasets import ClearImageDataset

    dataset = ClearImageDataset(str(folder))
    samples = [dataset[number] for number in range(len(dataset))]
    return {Path(one["data_samples"].name).name: of_tensor(one["inputs"]) for one in samples}


def of_tensor(image: torch.Tensor) -> np.ndarray:
    pixels = (image * 255).round().byte()
    assert torch.equal(image, pixels.float() / 255)
    return pixels.permute(1, 2, 0).numpy()


def store(folder: Path, out: Path) -> Pixels:
    prepare(folder, out / "store", clear_only=True)
    made = Store(out / "store")
    count = made.info.counts["clear"]
    return {Path(made.name("clear", n)).name: made.pixels("clear", n) for n in range(count)}


def dehazing(folder: Path, out: Path) -> Pixels:
    seen = []

    def network(pixels: np.ndarray) -> np.ndarray:
        seen.append(to_8_bit(pixels))
        return pixels

    dehaze_all([folder], out / "out", lambda: network, form="png")
    found = dict(zip((path.name for path in sorted(folder.iterdir())), seen, strict=True))
    for name, pixels in found.items():
        assert np.array_equal(read_rgb(out / "out" / f"{Path(name).stem}.png"), pixels)
    return found


def from_python(folder: Path, _: Path) -> Pixels:
    dehazer = Dehazer(nn.Identity(), device="cpu")
    return {path.name: to_8_bit(dehazer(path)) for path in folder.iterdir()}


def benchmark(folder: Path, _: Path) -> Pixels:
    return {path.name: read_pair((path, path))[0] for path in folder.iterdir()}


DOORS: dict[str, Callable[[Path, Path], Pixels]] = {
    "read_rgb": each(read_rgb),
    "read_photo": each(lambda path: to_8_bit(read_photo(path).pixels)),
    "decode_rgb": each(lambda path: decode_rgb(memoryview(path.read_bytes()), path)),
    "BasicSR's dataset": basicsr_dataset,
    "mmengine's dataset": mmengine_dataset,
    "store": store,
    "dehaze": dehazing,
    "Dehazer": from_python,
    "bench data": benchmark,
}


@pytest.mark.parametrize("door", DOORS)
def test_every_file_has_the_same_pixels_from_every_door(
    folder: Path, tmp_path: Path, door: str
) -> None:
    found = DOORS[door](folder, tmp_path)
    assert found.keys() == ODD.keys()
    assert [name for name in ODD if not np.array_equal(found[name], ODD[name][1])] == []


@pytest.mark.parametrize("name", ODD)
def test_depth_and_size_are_those_of_the_pixels(folder: Path, name: str) -> None:
    depth = np.uint16 if name.startswith("16") else np.uint8
    assert read_photo(folder / name).pixels.dtype == depth
    assert read_size(folder / name) == ODD[name][1].shape[:2]


def damaged_png() -> bytes:
    """A PNG of the right length with one wrong byte among its pixels."""
    content = bytearray(saved(Image.fromarray(RGB), "PNG"))
    content[content.index(b"IDAT") + 300] ^= 1
    return bytes(content)


FAULTS: dict[str, tuple[str, Callable[[], bytes]]] = {
    **{kind: (name, content) for kind, (name, _, content) in BAD.items()},
    "damaged-png": ("x.png", damaged_png),
    "truncated-16-bit": ("x.png", lambda: opencv(".png", smooth(3))[:-200]),
    "truncated-webp": ("x.webp", lambda: saved(Image.fromarray(RGB), "WEBP")[:-40]),
    "psd": ("x.png", lambda: b"8BPS" + bytes(40)),
    "32-bit": ("x.tif", lambda: tiff(RGB.astype(np.uint32))),
    "lab": ("x.tif", lambda: saved(Image.new("LAB", (9, 9)), "TIFF")),
    "two-depths": ("x.png", lambda: b"II*\0" + coded(".tif")[4:60]),
}


def checking(folder: Path, out: Path) -> Pixels:
    findings = check_data([folder], output=out / "check.png")
    raise KTDNError("; ".join(one.text for one in findings if one.severity == "error"))


@pytest.mark.parametrize("door", [*DOORS, "check-data"])
def test_every_bad_file_has_the_same_error_from_every_door(
    tmp_path: Path, door: str, capfd: pytest.CaptureFixture
) -> None:
    read = {**DOORS, "check-data": checking}[door]
    for kind, (name, content) in FAULTS.items():
        path = tmp_path / kind / name
        path.parent.mkdir()
        path.write_bytes(content())
        with pytest.raises(KTDNError) as expected:
            read_rgb(path)
        with pytest.raises(KTDNError) as caught:
            read(path.parent, tmp_path / f"{kind}-out")
        # A folder that is named before says the file's name alone.
        reason = str(expected.value).removeprefix(str(path))
        assert f"{name}{reason}" in str(caught.value), kind
        assert "\n" not in reason
        # No library has a line of its own about it.
        assert not re.search("libpng|libjpeg|TIFF|Corrupt", capfd.readouterr().err), kind


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))


def evaluated(results: Path, clear: Path) -> dict[str, tuple[str, str]]:
    assert main(["evaluate", f"mine={results}", "--gt", str(clear), "-o", "table.csv"]) == 0
    return {row["image"]: (row["psnr"], row["ssim"]) for row in rows(Path("table.csv"))}


def dehazed(results: Path, clear: Path) -> dict[str, tuple[str, str]]:
    dehaze_all([results], Path("out"), lambda: np.copy, ground_truth=clear)
    table = rows(Path("out/metrics.csv"))
    assert all(row["hazy_psnr"] == row["dehazed_psnr"] for row in table)
    return {row["image"]: (row["dehazed_psnr"], row["dehazed_ssim"]) for row in table}


def reported(results: Path, clear: Path) -> dict[str, tuple[str, str]]:
    words = ["report", f"mine={results}", "--gt", str(clear), "-o", "page.html", "--photos", "99"]
    assert main(words) == 0
    page = Path("page.html").read_text(encoding="utf-8")
    (text,) = re.findall(r'"data:text/csv[^,"]*;base64,([^"]+)"', page)
    table = csv.DictReader(io.StringIO(base64.b64decode(text).decode()))
    return {row["photo"]: (row["psnr"], row["ssim"]) for row in table}


@pytest.mark.parametrize("command", [evaluated, dehazed, reported])
def test_a_file_has_the_same_figures_from_every_command(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Callable
) -> None:
    monkeypatch.chdir(tmp_path)
    results = tmp_path / "mine"
    results.mkdir()
    expected = {}
    for number, (name, (_, pixels)) in enumerate(ODD.items()):
        # So near that a level more or less in some pixels shows.
        noise = np.random.RandomState(number).randint(-1, 2, pixels.shape)
        near = (pixels + noise).clip(0, 255).astype(np.uint8)
        Image.fromarray(near).save(results / f"{Path(name).stem}.png")
        expected[Path(name).stem] = measure(near, pixels)
    found = command(results, folder)
    assert expected.keys() <= found.keys()
    for stem, figures in expected.items():
        assert tuple(map(float, found[stem])) == pytest.approx(figures, abs=5.1e-5), stem


def test_a_plain_png_is_the_same_by_either_decoder() -> None:
    """OpenCV decodes those for training, since it is quicker."""
    for size in ((1, 1), (3, 2), (150, 201)):
        pixels = np.random.RandomState(size[0]).randint(0, 256, (*size, 3)).astype(np.uint8)
        for options in ({}, {"compress_level": 0}, {"optimize": True}):
            for one in (saved(Image.fromarray(pixels), "PNG", **options), opencv(".png", pixels)):
                assert np.array_equal(decode_rgb(one, "x"), pixels)
                assert np.array_equal(decode_photo(one, "x").pixels, pixels)


def test_a_damaged_plain_png_is_the_same_by_either_decoder(capfd: pytest.CaptureFixture) -> None:
    whole = saved(Image.fromarray(RGB), "PNG")
    draw = np.random.RandomState(0)
    said = set()
    for number in range(300):
        content = bytearray(whole)
        at = draw.randint(len(whole))
        if number % 3 == 0:
            content[at] ^= 1 << draw.randint(8)
        elif number % 3 == 1:
            del content[at : at + draw.randint(1, 9)]
        else:
            content[at:at] = draw.bytes(draw.randint(1, 9))
        outcomes = []
        for decode in (decode_rgb, lambda *words: decode_photo(*words).pixels):
            try:
                outcomes.append(decode(bytes(content), "x").tobytes())
            except KTDNError as error:
                outcomes.append(str(error))
                said.add(str(error))
        assert outcomes[0] == outcomes[1], number
    assert said
    assert "libpng" not in capfd.readouterr().err


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_an_image_of_pillows_is_what_its_file_would_be(tmp_path: Path, mode: str) -> None:
    if mode == "I;16":
        image = Image.fromarray(np.ascontiguousarray(smooth()[..., 0]))
        assert image.mode == mode
    else:
        image = Image.fromarray(RGB).convert(mode)
    image.save(tmp_path / "x.tif")
    dehazer = Dehazer(nn.Identity(), device="cpu")
    expected = read_rgb(tmp_path / "x.tif")
    assert np.array_equal(np.asarray(dehazer(image)), expected)
    image.load()  # it is still whose it was


def test_an_image_of_pillows_without_a_known_range_is_refused() -> None:
    for mode in ("I", "F"):
        with pytest.raises(KTDNError, match=f"of mode {mode}: .* convert it, or name its file"):
            Dehazer(nn.Identity(), device="cpu")(Image.new(mode, (4, 4)))


OPENCVS = ("imread", "imdecode", "imwrite", "imencode", "imreadmulti", "imdecodemulti")
BY_THEMSELVES = {
    "haze/degradation.py": {"imencode", "imdecode"},  # a camera's JPEG, in memory
    "bench/plain_loop.py": {"open", "save"},  # the baseline: what people would write themselves
}


def test_nothing_else_in_the_package_reads_or_writes_image_files() -> None:
    root = Path(ktdn_plugin.__file__).parent
    found: dict[str, set[str]] = {}
    for path in root.rglob("*.py"):
        name = path.relative_to(root).as_posix()
        tree = ast.parse(path.read_text(encoding="utf-8"))
        imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        has_pillow = any(node.module == "PIL" for node in imports)
        for node in ast.walk(tree):
            if name.startswith("photos/") or not isinstance(node, ast.Attribute):
                continue
            of_pillow = has_pillow and node.attr in ("open", "save")
            if of_pillow or node.attr in OPENCVS:
                found.setdefault(name, set()).add(node.attr)
    assert found == BY_THEMSELVES
