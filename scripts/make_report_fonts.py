"""Make the fonts that lorascope-report embeds, from the Debian packages fonts-open-sans and fonts-dejavu-core.

What: crates/report/assets/fonts/{OpenSans-Regular,OpenSans-Semibold,DejaVuSans-Symbols}.ttf for measuring and
drawing, and OpenSans-*.woff2 of the same glyphs for the HTML page. Hinting is dropped: all text is drawn
anti-aliased at high resolution.

How: apt-get install fonts-open-sans fonts-dejavu-core; pip install fonttools brotli;
     python scripts/make_report_fonts.py
"""

from pathlib import Path

from fontTools import subset

FONTS = Path("/usr/share/fonts/truetype")
TARGET = Path(__file__).parent.parent / "crates/report/assets/fonts"
# Latin, Latin-1, Latin Extended-A, Greek, Cyrillic, punctuation, super- and subscripts, currency, operators
TEXT = [*range(0x20, 0x7F), *range(0xA0, 0x180), *range(0x370, 0x400), *range(0x400, 0x460),
        *range(0x2000, 0x2070), *range(0x2070, 0x20C0), *range(0x2100, 0x2150), *range(0x2200, 0x2300)]
# What Open Sans lacks: arrows, operators, shapes
SYMBOLS = [*range(0x2190, 0x2200), *range(0x2200, 0x2300), *range(0x25A0, 0x2600), 0xFFFD]


def write(source: Path, name: str, unicodes: list[int], flavor: str | None) -> None:
    options = subset.Options(flavor=flavor, hinting=False, layout_features=["kern", "mark", "mkmk", "ccmp"],
                             name_IDs=[0, 1, 2, 3, 4, 5, 6, 13, 14, 16, 17], notdef_outline=True)
    options.recalc_timestamp = False
    font = subset.load_font(str(source), options)
    subsetter = subset.Subsetter(options)
    subsetter.populate(unicodes=unicodes)
    subsetter.subset(font)
    subset.save_font(font, str(TARGET / name), options)


TARGET.mkdir(parents=True, exist_ok=True)
for weight in ("Regular", "Semibold"):
    for ending, flavor in (("ttf", None), ("woff2", "woff2")):
        write(FONTS / f"open-sans/OpenSans-{weight}.ttf", f"OpenSans-{weight}.{ending}", TEXT, flavor)
write(FONTS / "dejavu/DejaVuSans.ttf", "DejaVuSans-Symbols.ttf", SYMBOLS, None)
