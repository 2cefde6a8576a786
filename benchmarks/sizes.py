"""How much room the libraries take: the wheel, and what is installed."""

from __future__ import annotations

import gzip
from pathlib import Path
from types import ModuleType

DIST = Path(__file__).parent.parent / "dist"
LARGEST_WHEEL = 6.0  # MB


def _files(library: ModuleType) -> list[Path]:
    paths = Path(library.__file__).parent.rglob("*")
    return [path for path in paths if path.is_file() and path.suffix != ".pyc"]


def wheel_size() -> str:
    """The size of the newest wheel in `dist/`; without one that of the installed files, which judges nothing.

    `make wheel` optimises more than the build of `make bench`, and leaves the symbols out.
    """
    import firesteel

    wheels = sorted(DIST.glob("*.whl"), key=lambda path: path.stat().st_mtime)
    if wheels:
        name, size = "wheel", wheels[-1].stat().st_size
        verdict = "met" if size / 1e6 <= LARGEST_WHEEL else "missed"
    else:
        name, verdict = "wheel (estimated; see make wheel)", "?"
        size = sum(len(gzip.compress(path.read_bytes())) for path in _files(firesteel))
    return f"{name}: {size / 1e6:.2f} MB, wanted <= {LARGEST_WHEEL:g} MB: {verdict}"


def package_size(library: ModuleType) -> str:
    """How much room a library takes when installed."""
    total = sum(path.stat().st_size for path in _files(library))
    return f"installed size of {library.__name__}: {total / 1e6:.1f} MB"
