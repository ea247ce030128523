"""``ktdn dehaze`` on videos: pictures, times, sound, shape and colours."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from av.video.reformatter import Colorspace
from dehaze.conftest import files
from dehaze.video_files import read_video, write_video
from PIL import Image
from skimage import data

from ktdn_plugin.dehaze import dehaze_all
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.videos import VideoOptions
from ktdn_plugin.videos.encoding import order_for_decoding

VARIABLE = [0, 1800, 9000, 9101, 12000, 30000, 30500, 60000, 61000, 90000]


def inverted(image: np.ndarray) -> np.ndarray:
    return np.iinfo(image.dtype).max - image


def same(image: np.ndarray) -> np.ndarray:
    return image


def invert(path: str, output: str, **options: object) -> None:
    dehaze_all([Path(path)], Path(output), lambda: inverted, video=VideoOptions(**options))


def difference(one: np.ndarray, other: np.ndarray) -> float:
    """The mean difference in units of 8 bit."""
    scale = np.iinfo(one.dtype).max / 255
    return np.abs(one.astype(float) - other).mean() / scale


@pytest.mark.parametrize(
    ("suffix", "subtitles"), [(".mp4", "mov_text"), (".mov", "mov_text"), (".mkv", "subrip")]
)
def test_all_but_the_pictures_is_copied(
    here: Path, suffix: str, subtitles: str, capsys: pytest.CaptureFixture
) -> None:
    times = [time + 900 for time in VARIABLE]
    if suffix == ".mkv":
        times = [90 * round(time / 90) for time in times]  # it counts milliseconds
    write_video(f"clip{suffix}", len(times), times=times, subtitles=subtitles)
    invert(f"clip{suffix}", "out")
    assert capsys.readouterr().out == "Dehazed: out\n"
    assert files("out") == [f"clip{suffix}"]
    before, after = read_video(f"clip{suffix}"), read_video(f"out/clip{suffix}")
    assert after.times == before.times
    assert len(after.images) == len(times)
    for one, other in zip(before.images, after.images, strict=True):
        assert difference(255 - one, other) < 4
    assert len(before.copies) == 2
    assert after.copies == before.copies  # the very packets
    assert all(len(packets) >= 2 for packets in after.copies.values())
    assert after.metadata["title"] == "A title"
    assert (after.video["codec"], after.video["pix_fmt"]) == ("h264", "yuv420p")


def test_metadata_in_another_encoding_is_no_obstacle(here: Path) -> None:
    write_video("clip.mkv", 3)
    content = Path("clip.mkv").read_bytes()
    assert content.count(b"A title") == 1
    Path("clip.mkv").write_bytes(content.replace(b"A title", b"\xc4 title"))
    invert("clip.mkv", "x.mkv")
    assert len(read_video("x.mkv").times) == 3


def test_the_index_of_an_mp4_comes_first(here: Path) -> None:
    write_video("clip.mp4")
    invert("clip.mp4", "x.mp4")
    content = Path("x.mp4").read_bytes()
    assert 0 < content.find(b"moov") < content.find(b"mdat")


def test_what_a_format_has_no_room_for_is_named(here: Path, capsys: pytest.CaptureFixture) -> None:
    write_video("clip.mkv", subtitles="subrip")
    invert("clip.mkv", "x.mp4")
    said = capsys.readouterr().out
    assert (
        "dropped: subtitles (srt), for which .mp4 has no room; -o NAME.mkv keeps it: clip.mkv"
    ) in said.replace("subrip", "srt")
    assert list(read_video("x.mp4").copies) == ["aac"]


def test_old_formats_become_mp4(here: Path) -> None:
    write_video("clip.avi", codec="mjpeg", pixels="yuvj420p", sound="mp2", color_range=2)
    invert("clip.avi", "out")
    assert files("out") == ["clip.mp4"]
    before, after = read_video("clip.avi"), read_video("out/clip.mp4")
    assert [float(time) for time in after.times] == [number / 25 for number in range(12)]
    # Full range, as it was.
    assert (after.video["color_range"], after.video["pix_fmt"]) == (2, "yuvj420p")
    assert difference(255 - before.images[3], after.images[3]) < 5
    (packets,), (expected,) = after.copies.values(), before.copies.values()
    assert [content for _, content in packets] == [content for _, content in expected]


def test_pixel_shape_and_turned_pictures(here: Path) -> None:
    shape = Fraction(4, 3)
    # A quarter turn clockwise, as of a phone held upright, and a mirror of the long way.
    write_video("clip.mp4", sample_aspect_ratio=shape, turned=(0, 1, -1, 0))
    write_video("mirrored.mp4", turned=(-1, 0, 0, 1))
    write_video("straight.mp4", sample_aspect_ratio=shape)
    for name in ("clip", "mirrored", "straight"):
        invert(f"{name}.mp4", f"out_{name}.mp4")
    (hazy, *_), *_ = read_video("straight.mp4")
    straight = read_video("out_straight.mp4")
    assert straight.video["shape"] == shape
    assert difference(255 - hazy, straight.images[0]) < 4
    turned = read_video("out_clip.mp4")
    assert turned.video["shape"] == 1 / shape
    assert (turned.video["width"], turned.video["height"]) == (64, 96)
    assert difference(255 - np.rot90(hazy, -1), turned.images[0]) < 4
    assert difference(255 - hazy[:, ::-1], read_video("out_mirrored.mp4").images[0]) < 4


@pytest.mark.parametrize(("matrix", "limits"), [(1, 1), (6, 1), (1, 2), (9, 1)])
def test_colours_are_kept_and_converted_by_their_own_matrix(
    here: Path, matrix: int, limits: int
) -> None:
    if matrix == 9 and not hasattr(Colorspace, "BT2020"):
        pytest.skip("this PyAV does not know BT.2020")
    colours = [(200, 30, 40), (20, 180, 60), (70, 40, 220)]
    images = [np.full((64, 96, 3), colour, np.uint8) for colour in colours]
    tags = {"color_primaries": matrix, "color_trc": matrix, "color_range": limits}
    if matrix == 9:
        tags["color_trc"] = 14  # BT.2020 in SDR
    write_video("clip.mp4", images=images, sound=None, matrix=matrix, **tags)
    seen = []

    def look(image: np.ndarray) -> np.ndarray:
        seen.append(image[32, 48])
        return image

    video = VideoOptions(crf=4)
    dehaze_all([Path("clip.mp4")], Path("x.mp4"), lambda: look, video=video, workers=0)
    assert np.abs(np.array(seen) - colours).max() <= 3
    after = read_video("x.mp4", {6: 5}.get(matrix, matrix))
    assert {name: after.video[name] for name in tags} == tags
    assert after.video["colorspace"] == matrix
    found = [image[32, 48].astype(int) for image in after.images]
    assert np.abs(np.array(found) - colours).max() <= 4


def test_ten_bits_are_kept(here: Path) -> None:
    ramp = np.linspace(20000, 24000, 96 * 64).astype(np.uint16).reshape(64, 96, 1)
    images = [np.repeat(ramp, 3, 2) + 300 * number for number in range(3)]
    write_video("clip.mp4", images=images, codec="libx265", pixels="yuv420p10le")
    depths = set()

    def look(image: np.ndarray) -> np.ndarray:
        depths.add(image.dtype)
        return image

    for codec, expected in (("auto", "hevc"), ("h264", "h264")):
        video = VideoOptions(codec=codec, crf=4)
        path = Path(f"{codec}.mp4")
        dehaze_all([Path("clip.mp4")], path, lambda: look, video=video)
        after = read_video(path)
        assert (after.video["codec"], after.video["pix_fmt"]) == (expected, "yuv420p10le")
        # 4000 of 65536 are 16 steps of 8 bit, and 62 of 10 bit.
        assert len(np.unique(after.images[0])) > 40
        assert difference(images[2], after.images[2]) < 1
    assert depths == {np.dtype(np.uint16)}
    assert read_video("auto.mp4").video["codec_tag"] == "hvc1"


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_hdr_is_refused_before_anything_is_written(here: Path, transfer: int, name: str) -> None:
    write_video(
        "clip.mp4",
        3,
        codec="libx265",
        pixels="yuv420p10le",
        matrix=9,
        color_primaries=9,
        color_trc=transfer,
    )
    with pytest.raises(KTDNError, match=rf"^clip\.mp4: an HDR video \({name}\), .* to SDR first"):
        invert("clip.mp4", "out")
    assert not Path("out").exists()


def test_odd_sizes_lose_no_pixel(here: Path, capsys: pytest.CaptureFixture) -> None:
    frames = [Image.fromarray(data.astronaut()[at : at + 65, :97]) for at in (0, 20, 40)]
    # No encoder writes such a size as most videos are; FFmpeg goes by the content.
    frames[0].save("odd.mkv", "GIF", save_all=True, append_images=frames[1:], duration=40)
    invert("odd.mkv", "out")
    said = capsys.readouterr().out
    assert "97 x 65 pixels are odd, which players do not take" in said
    before, after = read_video("odd.mkv"), read_video("out/odd.mkv")
    assert [image.shape for image in after.images] == [(66, 98, 3)] * 3
    for one, other in zip(before.images, after.images, strict=True):
        assert difference(255 - one[..., :3], other[:65, :97]) < 6
        assert difference(other[64], other[65]) < 6


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_of_a_truncated_video_what_can_be_decoded_is_dehazed(
    here: Path, suffix: str, capsys: pytest.CaptureFixture
) -> None:
    flags = "+faststart" if suffix == ".mp4" else ""
    write_video(f"clip{suffix}", 50, flags=flags)
    whole = Path(f"clip{suffix}").read_bytes()
    Path(f"clip{suffix}").write_bytes(whole[: len(whole) * 6 // 10])
    invert(f"clip{suffix}", "out")
    (note,) = [line for line in capsys.readouterr().out.splitlines() if "cut off" in line]
    assert " of 2.0 seconds) could be decoded and are dehazed" in note
    assert note.endswith(f": clip{suffix}")
    after = read_video(f"out/clip{suffix}")
    assert 15 < len(after.images) < 45
    assert f"{len(after.images)} " in note
    assert len(after.copies["aac"]) > 10


def test_without_its_index_a_truncated_video_is_an_error(here: Path) -> None:
    write_video("clip.mp4")
    whole = Path("clip.mp4").read_bytes()
    Path("clip.mp4").write_bytes(whole[: len(whole) * 6 // 10])
    with pytest.raises(KTDNError, match=r"^clip\.mp4: not a decodable video, or a truncated one"):
        invert("clip.mp4", "out")
    assert not Path("out").exists()


def test_not_a_video(here: Path) -> None:
    Path("clip.mp4").write_text("<html>")
    with pytest.raises(KTDNError, match=r"^clip\.mp4: not a decodable video"):
        invert("clip.mp4", "out")
    write_video("real.mp4", 2)
    with pytest.raises(KTDNError, match=r"-o x\.avi: a video is written as \.mp4"):
        invert("real.mp4", "x.avi")


def test_the_command(here: Path, dehaze: Callable) -> None:
    write_video("clip.mp4", 4)
    code, out, err = dehaze("clip.mp4", "-o", "result.mp4", "--codec", "hevc", "--crf", "30")
    assert (code, out, err) == (0, "Dehazed: result.mp4\n", "")
    result = read_video("result.mp4")
    assert (len(result.images), result.video["codec"]) == (4, "hevc")
    assert "1 of 1 was there already" in dehaze("clip.mp4", "-o", "result.mp4")[1]
    for words, said in (
        (("clip.mp4", "--format", "png"), "--format png: is of photos"),
        (("clip.mp4", "--crf", "52"), "--crf must be 0 to 51, got 52"),
        (("clip.mp4", "--smooth", "nan"), "--smooth must be 0 to 60 seconds"),
        (("clip.mp4", "--raw", "3x4"), "--raw 3x4: is of a pipe"),
        (("photos", "--crf", "20"), "--crf 20: is of videos, and here are photos alone"),
        (("clip.mp4", "--quality", "90"), "--quality 90: no result is a JPEG or WebP"),
    ):
        code, _, err = dehaze(*words)
        assert (code, err.startswith(f"error: {said}")) == (1, True), err


def test_results_of_other_options_are_refused(here: Path, dehaze: Callable) -> None:
    write_video("clip.mp4", 2)
    assert dehaze("clip.mp4", "-o", "out", "--smooth", "0")[0] == 0
    for words, said in (
        ((), "--smooth 0"),
        (("--smooth", "0", "--crf", "30"), "--crf of the default"),
        (("--smooth", "0", "--codec", "hevc"), "--codec auto"),
    ):
        code, _, err = dehaze("clip.mp4", "-o", "out", *words)
        assert (code, f"is there already, made with {said};" in err) == (1, True), err


def test_videos_in_folders_are_left_out_and_named(
    here: Path, capsys: pytest.CaptureFixture
) -> None:
    write_video("photos/clip.mp4", 2)
    dehaze_all([Path("photos")], Path("out"), lambda: inverted)
    assert files("out") == ["a.png", "deeper/b.jpg", "deeper/c.webp"]
    said = capsys.readouterr().out
    assert f"name them to dehaze them: {Path('photos/clip.mp4')}" in said


def test_videos_are_neither_compared_nor_measured_with_a_note(
    here: Path, capsys: pytest.CaptureFixture
) -> None:
    write_video("clip.mp4", 2)
    dehaze_all([Path("clip.mp4")], Path("out"), lambda: inverted, compare=True)
    assert "videos are neither compared nor measured: clip.mp4" in capsys.readouterr().out
    assert files("out") == ["clip.mp4"]


def test_without_pyav_one_line_says_what_to_install(here: Path) -> None:
    Path("clip.mp4").write_bytes(b"x")
    hidden = "import sys; sys.modules['av'] = None; from ktdn_plugin import cli"
    hidden += "; sys.exit(cli.main())"
    words = [sys.executable, "-c", hidden, "dehaze"]
    done = subprocess.run([*words, "clip.mp4"], capture_output=True, text=True, check=False)
    assert done.stderr == "error: clip.mp4: videos need PyAV; install it: pip install av\n"
    assert done.returncode == 1


def test_packets_are_decoded_in_time() -> None:
    shown = [0, 12, 4, 8, 24, 16, 20]
    decoded = order_for_decoding(shown)
    assert decoded == sorted({*decoded})
    assert all(one <= other for one, other in zip(decoded, shown, strict=True))
