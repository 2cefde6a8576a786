"""The package as it is installed: light to import, small, and true to its paths."""

import gzip
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import firesteel

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "rust/README.md", *sorted((ROOT / "docs").glob("*.md"))]
WHEELS = sorted((ROOT / "dist").glob("*.whl"), key=lambda path: path.stat().st_mtime)
LARGEST = 6_000_000
# What is built for tests is larger by a seventh than what `make wheel` optimises as a whole.
LARGEST_INSTALLED = 6_900_000


def test_importing_it_imports_no_numpy():
    program = "import sys, firesteel; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    modules = {name.partition(".")[0] for name in done.stdout.split()}
    assert "firesteel" in modules
    assert not modules & {"numpy", "torch", "matplotlib", "tqdm", "asyncio", "multiprocessing", "unittest"}


@pytest.mark.skipif(not WHEELS, reason="no wheel in dist/: make wheel")
def test_the_wheel_is_small():
    assert WHEELS[-1].stat().st_size < LARGEST, WHEELS[-1].name


def test_the_installed_package_is_small(tmp_path):
    folder = Path(firesteel.__file__).parent
    files = [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    core = shutil.copy(firesteel._core.__file__, tmp_path)
    if shutil.which("strip"):
        subprocess.run(["strip", core], check=True)  # as `make wheel` does
    files[files.index(Path(firesteel._core.__file__))] = Path(core)
    assert sum(len(gzip.compress(path.read_bytes(), 6)) for path in files) < LARGEST_INSTALLED


# Where the paths on a page begin.
BASES = ("", "rust", "rust/core", "rust/core/src", "rust/python/src", "python/firesteel")
MADE = ("runs/", "dist/", "target/", ".venv/", "data/")  # by running something


def _missing(page: Path):
    """What a page names, as a link or as a path in backquotes, and what is not there."""
    text = page.read_text()
    yield from (link for link in re.findall(r"\]\(([^)#:]+)\)", text) if not (page.parent / link).exists())
    for word in re.findall(r"`([\w./-]+/(?:[\w.-]+\.(?:py|rs|md|toml|gz|pyi))?)`", text):
        if not word.startswith(MADE) and not any((ROOT / base / word).exists() for base in BASES):
            yield word


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_paths_on_the_page_exist(page):
    assert not [*_missing(page)]
