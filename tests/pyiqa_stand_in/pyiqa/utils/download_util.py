from __future__ import annotations

from pathlib import Path

from torch.hub import download_url_to_file, get_dir

DEFAULT_CACHE_DIR = str(Path(get_dir(), "pyiqa"))


def load_file_from_url(url: str) -> str:
    path = Path(DEFAULT_CACHE_DIR, url.rsplit("/", 1)[1])
    if not path.exists():
        print(f'Downloading: "{url}" to {path}\n')
        download_url_to_file(url, str(path))
    return str(path)
