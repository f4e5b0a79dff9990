"""Notebooks as pages: their text, their code, and the outputs that they were stored with. Nothing is run.

Figures are drawn by plotly.js of the installed package, a file of the site.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from plotly.offline import get_plotlyjs

PLOTLY = "application/vnd.plotly.v1+json"
PLOTLY_JS = "assets/plotly.js"
ESCAPE_SEQUENCE = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
SCRIPT = """
<script src="{library}"></script>
<script>
for (const place of document.querySelectorAll("script.plotly-figure")) {
  const drawing = JSON.parse(place.textContent), box = document.createElement("div");
  place.after(box);
  Plotly.newPlot(box, drawing.data, drawing.layout, {responsive: true, displayModeBar: false});
}
</script>
"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for each notebook; the notebook itself is a file beside it."""
    for notebook in [file for file in files if file.src_uri.endswith(".ipynb")]:
        page = notebook.src_uri.removesuffix(".ipynb")
        to_top = "../" * (page.count("/") + 1)
        content = notebook_page(json.loads(notebook.content_string), to_top + PLOTLY_JS)
        files.append(File.generated(config, f"{page}.md", content=content))
        if files.get_file_from_path(PLOTLY_JS) is None:
            files.append(File.generated(config, PLOTLY_JS, content=get_plotlyjs()))
    return files


def notebook_page(notebook: dict[str, Any], library: str) -> str:
    """A notebook as Markdown. ``library``: plotly.js, as the page finds it."""
    blocks = [block for cell in notebook["cells"] for block in cell_blocks(cell)]
    has_figures = any("plotly-figure" in block for block in blocks)
    return "\n\n".join([*blocks, *([SCRIPT.replace("{library}", library)] if has_figures else [])]) + "\n"


def cell_blocks(cell: dict[str, Any]) -> Iterator[str]:
    """A cell as Markdown."""
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        yield source
        return
    yield f"```python\n{source}\n```"
    for output in cell["outputs"]:
        yield output_block(output)


def output_block(output: dict[str, Any]) -> str:
    """An output as Markdown: the richest form of it that a page can show."""
    data = output.get("data", {"text/plain": output.get("text", output.get("traceback", []))})
    if PLOTLY in data:
        drawing = json.dumps(data[PLOTLY]).replace("<", "\\u003c")
        return f'<script type="application/json" class="plotly-figure">{drawing}</script>'
    if "text/html" in data:
        # Without the style sheet and class of pandas: a page has its own.
        table = re.sub(r"<style.*?</style>", "", "".join(data["text/html"]), flags=re.DOTALL)
        table = table.replace('<table border="1" class="dataframe">', "<table>")
        return "".join(line.strip() for line in table.splitlines())
    return f"```text\n{ESCAPE_SEQUENCE.sub('', ''.join(data['text/plain'])).rstrip()}\n```"
