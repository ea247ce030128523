"""Packaging of ktdn-plugin."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(
    r'__version__ = "(.+)"', (ROOT / "ktdn_plugin" / "__init__.py").read_text(encoding="utf-8")
).group(1)

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
        "torch>=2.6",  # torch.load(weights_only=True) that is safe (CVE-2025-32434)
        "torchvision",
        "basicsr==1.4.2",
        "mmengine>=0.10.7",
        "timm>=1.0.20",
        "opencv-python",
        "lmdb",
        "addict",
        "cyclopts>=4.25",  # the commands' flags, from signatures and docstrings; 4 on Python 3.10
        # Imported by us as well, though the above bring them along:
        "kornia>=0.8",  # Lab loss
        "attrs",  # cyclopts's tables of help
        "huggingface_hub",  # KTDN.from_pretrained and push_to_hub
        "jinja2>=3.1",  # the page of ktdn report, every name in it escaped
        "matplotlib>=3.7",  # curves, of reports too
        "numpy",
        "pillow>=11",  # photographs and their metadata, captions; AVIF from 11.3 on
        "pydantic>=2.10",  # the schema of options files
        "pytorch-msssim",  # SSIM loss
        "pyyaml",  # options files
        "rich>=13",  # tables on screen, and help
        "safetensors",  # weights files
        "scikit-image",  # CIEDE2000, and the demo's photographs
        "tifffile",  # TIFF of 16 bit in arrangements that OpenCV does not know
        "tqdm",  # progress bars
    ],
    extras_require={
        # HEIC and JPEG XL: another 8 MB, which most people have no use for.
        "formats": ["pillow-heif>=1", "pillow-jxl-plugin>=1.3"],
        "export": ["onnx", "onnxscript", "onnxruntime"],  # ktdn export --onnx
        "onnx": ["onnxruntime"],  # Dehazer and ktdn dehaze with .onnx files
        "metrics": ["torchmetrics>=1.8"],  # ktdn evaluate --metrics lpips dists
        "pyiqa": ["pyiqa"],  # its other metrics; its licence: non-commercial use only
        "spandrel": ["spandrel>=0.4"],
        "ui": [  # ktdn serve
            "fastapi>=0.115",  # its addresses; from 0.115 on parameters may be a model
            "python-multipart",  # forms with files
            "uvicorn",  # serves it
        ],
        "test": [
            *("pytest", "pytest-xdist", "hypothesis", "ruff", "mypy", "types-PyYAML"),
            *("onnx", "onnxscript", "onnxruntime", "selenium", "spandrel>=0.4"),
            *("pillow-heif>=1", "pillow-jxl-plugin>=1.3", "imagecodecs", "torchmetrics>=1.8"),
            *("fastapi>=0.115", "python-multipart", "uvicorn"),
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
        "Topic :: Scientific/Engineering :: Image Processing",
    ],
)
