"""Packaging of ktdn-plugin."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(
    r'__version__ = "(.+)"', (ROOT / "ktdn_plugin" / "__init__.py").read_text(encoding="utf-8")
).group(1)
EXTRAS = {
    # HEIC and JPEG XL: another 8 MB, which most people have no use for.
    "formats": ["pillow-heif>=1", "pillow-jxl-plugin>=1.3"],
    "export": ["onnx>=1.17", "onnxscript>=0.2", "onnxruntime>=1.20"],  # ktdn export --onnx
    "onnx": ["onnxruntime>=1.20"],  # Dehazer and ktdn dehaze with .onnx files
    "metrics": ["torchmetrics>=1.8"],  # ktdn evaluate --metrics lpips dists
    "pyiqa": ["pyiqa"],  # its other metrics; its licence: non-commercial use only
    "spandrel": ["spandrel>=0.4"],
    "video": ["av>=17.1"],  # PyAV: another 104 MB, FFmpeg's libraries
    "ui": [  # ktdn serve
        "fastapi>=0.115",  # its addresses; from 0.115 on parameters may be a model
        "python-multipart>=0.0.20",  # forms with files
        "uvicorn>=0.30",  # serves it
    ],
}
FREE = sorted({one for name, some in EXTRAS.items() if name != "pyiqa" for one in some})
"""What allows commercial use as well."""

setup(
    name="ktdn-plugin",
    version=VERSION,
    description="KTDN, the Knowledge Transfer Dehazing Network, for BasicSR and mmengine",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.10",
    # The options files are edited at the top level and shipped inside the package, so that the
    # demo and the templates are there without a checkout.
    packages=[*find_packages(include=["ktdn_plugin", "ktdn_plugin.*"]), "ktdn_plugin.options"],
    package_dir={"ktdn_plugin.options": "options"},
    package_data={
        "ktdn_plugin": ["py.typed"],
        "ktdn_plugin.report": ["*.html.j2", "page.css", "page.js"],
        "ktdn_plugin.server": ["*.html.j2", "page.css", "page.js", "icon.svg"],
        "ktdn_plugin.comfyui.node": ["README.md"],
        "ktdn_plugin.model_zoo": ["weights/*"],
        "ktdn_plugin.options": [
            *("*.md", "schema.json", "*.yml", "*/*.yml", "mmengine/*.py", "mmengine/*/*.py")
        ],
    },
    install_requires=[
        "torch>=2.7",  # 2.6 cannot build every encoder on the meta device; 2.5 loads files unsafely
        "torchvision>=0.22",
        # Its source does not install on 3.13 and later without the help of ktdn install-basicsr.
        "basicsr==1.4.2; python_version < '3.13'",
        # BasicSR's tensorboard, for mmengine as well: another package's files would be in its way.
        "tb-nightly; python_version >= '3.13'",
        "mmengine>=0.10.7",
        "setuptools; python_version >= '3.12'",  # distutils, which mmengine imports
        "timm>=1.0.22",
        "opencv-python>=4.10",
        "lmdb>=1.4.1",
        "addict>=2.4",
        "cyclopts>=4.25",  # the commands' flags, from signatures and docstrings; 4 on Python 3.10
        # Imported by us as well, though the above bring them along:
        "kornia>=0.8",  # Lab loss
        "attrs>=23.1",  # cyclopts's tables of help
        "huggingface_hub>=0.27",  # KTDN.from_pretrained and push_to_hub
        "jinja2>=3.1.2",  # the page of ktdn report, every name in it escaped
        "matplotlib>=3.7.1",  # curves, of reports too
        "numpy>=1.26",
        "pillow>=11.1",  # photographs and their metadata, captions; AVIF from 11.3 on
        "psutil>=5.9.8; sys_platform != 'linux'",  # the free memory
        "pydantic>=2.10",  # the schema of options files
        "pytorch-msssim>=1",  # SSIM loss
        "pyyaml>=6.0.1",  # options files
        "rich>=13.6",  # tables on screen, and help
        "safetensors>=0.4.5",  # weights files
        "scikit-image>=0.22",  # CIEDE2000, and the demo's photographs
        "tifffile>=2023.7.10",  # TIFF of 16 bit in arrangements that OpenCV does not know
        "tqdm>=4.66.1",  # progress bars
    ],
    extras_require={
        **EXTRAS,
        "all": FREE,
        "test": [
            *("pytest", "pytest-xdist", "hypothesis", "ruff", "mypy", "types-PyYAML"),
            *("imagecodecs>=2024.9.22", "psutil>=5.9.8", "selenium", "setuptools>=70.1"),
            *FREE,
        ],
    },
    entry_points={
        "console_scripts": [
            "basicsr = ktdn_plugin.__main__:basicsr",
            "ktdn = ktdn_plugin.__main__:ktdn",
        ]
    },
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "Operating System :: OS Independent",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Programming Language :: Python :: 3.14",
        "Topic :: Scientific/Engineering :: Image Processing",
    ],
)
