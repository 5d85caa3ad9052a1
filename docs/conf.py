"""The documentation site: `make site` builds it into build/site from README.md, docs/ and the docstrings of salt/.

Every page also reads well on GitHub, so its links are those of the repository. Before Sphinx reads a page, `adapt`
shows files of the repository's root as pages, and points links to other files to `SALT_REPOSITORY`, the address under
which they can be read (https://HOST/OWNER/NAME/blob/BRANCH). Without it the site offers these files as downloads.
"""

import os
import re
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer

import salt

DOCS = Path(__file__).parent
ROOT = DOCS.parent
REPOSITORY = os.environ.get("SALT_REPOSITORY", "").rstrip("/")
SHOWN = {  # files of the root, each as the page of this name
    "index": "README.md",
    "contributing": "CONTRIBUTING.md",
    "changelog": "CHANGELOG.md",
    "security": "SECURITY.md",
}
ARRAY = re.compile(r"ndarray\[tuple\[Any, \.\.\.\], dtype\[(\w+)\]\]")
LINK = re.compile(r"(?P<text>\[[^\[\]]*\])\((?P<target>[^()\s#:]+)(?P<part>#[^()\s]*)?\)")

project = "Salt"
author = copyright = "The Salt developers"
version = release = salt.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["evidence"]
nb_execution_mode = "off"  # the tests run the notebooks
myst_heading_anchors = 4  # as GitHub names them
default_role = "code"  # docstrings have single backticks
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 100

html_theme = "furo"
html_theme_options = {"light_css_variables": {"sidebar-item-spacing-vertical": "0.3rem"}}
html_title = f"Salt {release}"
html_static_path = ["site.css"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False


def adapt(app: Sphinx, page: str, source: list[str]) -> None:
    """Put the file of the root that a page shows into it, and let its links lead to pages, or to the repository."""
    text, folder = source[0], DOCS
    if page in SHOWN:
        file = ROOT / SHOWN[page]
        app.env.note_dependency(str(file))
        after = text.partition("<!-- after -->")[2]  # what the site adds, such as its table of contents
        text, folder = f"{file.read_text(encoding='utf-8')}\n{after}", ROOT
    source[0] = LINK.sub(lambda link: adapt_link(link, folder), text)


def adapt_link(link: re.Match[str], folder: Path) -> str:
    """Return a link of a page that lies in `folder` as a link of the site."""
    file = Path(os.path.normpath(folder / link["target"]))
    if not file.exists() or not file.is_relative_to(ROOT):
        return link[0]
    name, text, part = file.relative_to(ROOT).as_posix(), link["text"], link["part"] or ""
    if name in SHOWN.values() or (file.parent == DOCS and file.suffix in (".md", ".ipynb")):
        page = {root: f"{page}.md" for page, root in SHOWN.items()}.get(name, file.name)
        return f"[{'' if text[1:-1].endswith(file.name) else text[1:-1]}]({page}{part})"  # [] shows the page's title
    if file.suffix in (".png", ".jpg", ".svg"):
        return f"{text}({os.path.relpath(file, DOCS)})"
    if REPOSITORY:
        return f"{text}({REPOSITORY}/{name}{part})"
    if file.is_dir():
        return text[1:-1]
    return f"{text}({os.path.relpath(file, DOCS)})"


def shorten(
    app: Sphinx, kind: str, name: str, obj: object, options: object, arguments: str | None, returns: str | None
) -> tuple[str | None, str | None] | None:
    """Return a signature whose arrays are named as the code names them."""
    if arguments is None:
        return None
    return ARRAY.sub(r"ndarray[\1]", arguments), returns and ARRAY.sub(r"ndarray[\1]", returns)


def setup(app: Sphinx) -> None:
    """Connect what changes pages and signatures."""
    app.connect("source-read", adapt)
    app.connect("autodoc-process-signature", shorten)
    analyzer = ModuleAnalyzer.for_module("salt.inference.model")
    analyzer.analyze()
    analyzer.overloads.clear()  # docs/api.md writes the signature of `predict`; two overloads would replace it
