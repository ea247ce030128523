from __future__ import annotations

from pathlib import Path

import pytest

from ktdn_plugin.errors import KTDNError
from ktdn_plugin.report.tables import Row, read_table
from ktdn_plugin.scenes.image_files import SUFFIXES


def table(folder: Path, text: str | bytes) -> Path:
    path = folder / "figures.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_tables_of_all_commands(tmp_path: Path) -> None:
    demo = "split,photo,hazy_psnr,hazy_ssim,dehazed_psnr,dehazed_ssim\r\nv,cat,1,0.1,2,0.2\r\n"
    assert read_table(table(tmp_path, demo)).rows == [
        Row("cat", "", "", "v", None, {"psnr": 2, "ssim": 0.2}, {"psnr": 1, "ssim": 0.1})
    ]
    test = "set,split,fingerprint,images,psnr,ssim,checkpoint\nNH,nh/val,123,5,20.5,0.7,a.pth\n"
    assert read_table(table(tmp_path, test)).rows == [
        Row("", "", "NH", "nh/val", 5, {"psnr": 20.5, "ssim": 0.7}, {})
    ]
    evaluate = (
        "split,image,method,psnr,ssim,psnr_y,topiq_nr\n"
        "unnamed split,a,ours,20,0.5,21,0.33\nunnamed split,a,hazy,10,0.25,11,\n"
        "unnamed split,mean,ours,20,0.5,21,0.33\n"
    )
    own = {"psnr": 20.0, "ssim": 0.5, "psnr_y": 21.0, "topiq_nr": 0.33}
    assert read_table(table(tmp_path, evaluate)).rows == [
        Row("a", "ours", "", "", None, own, {}),
        Row("a", "", "", "", None, {}, {"psnr": 10.0, "ssim": 0.25, "psnr_y": 11.0}),
        Row("", "ours", "", "", None, own, {}),
    ]


def test_names_of_images_of_all_formats(tmp_path: Path) -> None:
    rows = "".join(f"in/a.b{suffix.upper()},1\n" for suffix in SUFFIXES)
    found = read_table(table(tmp_path, f"image,psnr\n{rows}in/a.b,1\n")).rows
    assert {row.image for row in found} == {"in/a.b"}


def test_any_table(tmp_path: Path) -> None:
    text = "\ufeffFile , PSNR ,Seconds,Note\r\nx\\01.final.PNG, inf ,3,good\r\n\r\n02.b,-,4,\r\n"
    rows = read_table(table(tmp_path, text)).rows
    assert [row.image for row in rows] == ["x/01.final", "02.b"]
    assert [row.figures for row in rows] == [{"psnr": float("inf")}, {}]


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        (b"\xff\xfe\x00", "not a text file"),
        ("", "not a table of metrics"),
        ("image,value\na,1\n", "not a table of metrics"),
        ("image,pnsr\na,1\n", "did you mean 'psnr'?"),
        ("image,psnr\n", "without rows"),
        ("image,psnr\na,1\nb\n", "line 3: 1 cells for 2 columns"),
        ("image,psnr\na,1\nb,good\n", "line 3: psnr is 'good', not a number"),
        ('image,psnr\n"a,1\n', "broken CSV"),
    ],
)
def test_broken_tables(tmp_path: Path, text: str | bytes, wrong: str) -> None:
    path = table(tmp_path, text)
    with pytest.raises(KTDNError) as caught:
        read_table(path)
    assert str(caught.value).startswith(str(path))
    assert wrong in str(caught.value)
    assert "\n" not in str(caught.value)
