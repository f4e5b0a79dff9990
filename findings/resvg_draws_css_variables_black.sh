#!/usr/bin/env bash
# resvg draws what is filled by a CSS variable black, and leaves out every rule within @media, without a word.
#
# A figure for light and dark pages has its colours in variables and a dark palette in `@media (prefers-color-scheme:
# dark)`, as every browser understands it. resvg succeeds on it: whatever is filled by var() is black, also where var()
# has a fallback or an earlier declaration is one. No @media rule applies, not even `all`. The reasons are written only
# with log_information=True, which is off by default.
#
# Versions: resvg-py 0.5.0, pillow 13.0.0
# Seen:
#     a colour: #00ff00
#     a variable: #000000
#     a variable with a fallback: #000000
#     a variable after a colour: #000000
#     a colour, another in @media (prefers-color-scheme: dark): #00ff00
#     a colour, another in @media (prefers-color-scheme: light): #00ff00
#     a colour, another in @media all: #00ff00
#     messages: 0 bytes
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check resvg-py==0.5.0 pillow==13.0.0
cat >"$folder/finding.py" <<'PYTHON'
import io

from PIL import Image
from resvg_py import svg_to_bytes

GREEN = "rect { fill: #00ff00 }"
STYLES = {
    "a colour": GREEN,
    "a variable": "svg { --c: #00ff00 } rect { fill: var(--c) }",
    "a variable with a fallback": "rect { fill: var(--c, #00ff00) }",
    "a variable after a colour": "svg { --c: #00ff00 } rect { fill: #0000ff; fill: var(--c) }",
}
for query in "(prefers-color-scheme: dark)", "(prefers-color-scheme: light)", "all":
    STYLES[f"a colour, another in @media {query}"] = f"{GREEN} @media {query} {{ rect {{ fill: #0000ff }} }}"
for name, style in STYLES.items():
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><style>{style}</style><rect width="9" height="9"/></svg>'
    red, green, blue = Image.open(io.BytesIO(svg_to_bytes(svg_string=svg))).convert("RGB").getpixel((4, 4))
    print(f"{name}: #{red:02x}{green:02x}{blue:02x}")
PYTHON
"$folder/env/bin/python" "$folder/finding.py" 2>"$folder/err" | tee "$folder/out" || { cat "$folder/err" >&2; exit 1; }
echo "messages: $(($(wc -c <"$folder/err"))) bytes" | tee -a "$folder/out"
diff - "$folder/out" <<'EXPECTED'
a colour: #00ff00
a variable: #000000
a variable with a fallback: #000000
a variable after a colour: #000000
a colour, another in @media (prefers-color-scheme: dark): #00ff00
a colour, another in @media (prefers-color-scheme: light): #00ff00
a colour, another in @media all: #00ff00
messages: 0 bytes
EXPECTED
echo "still so"
