"""Draws the pictures of the pages: each by the code that stands above it.

A page is run from top to bottom. Where it links to a picture of this folder, the variable `picture` holds the
drawing. The tests check that the files are what the pages draw now.

    python docs/pictures/draw.py
"""

import contextlib
import io
import re
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# A block of code, or the link to a picture, with its path.
CODE_OR_PICTURE = re.compile(r"^```python\n(.*?)^```$|^!\[[^\]]*\]\(([^)]*pictures/\S+\.svg)\)", re.M | re.S)


def pictures(page: Path) -> Iterator[tuple[Path, str]]:
    """The pictures of a page: where each one is, and the SVG that the code above it draws.

    Raises:
        KeyError: if no drawing has been made for a picture.
    """
    namespace: dict[str, object] = {"__name__": "__main__"}
    for code, link in CODE_OR_PICTURE.findall(page.read_text(encoding="utf-8")):
        if code:
            with contextlib.redirect_stdout(io.StringIO()):
                exec(compile(code, page.name, "exec"), namespace)
        else:
            # Each drawing is for one picture: forgotten, it cannot be taken for the next.
            yield (page.parent / link).resolve(), namespace.pop("picture").svg()


def main() -> None:
    for page in PAGES:
        for path, svg in pictures(page):
            path.write_text(svg, encoding="utf-8")
            print(f"{path.relative_to(ROOT)}  {len(svg):,} bytes, from {page.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
