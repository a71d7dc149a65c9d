"""The fonts that matplotlib draws with: its own, and after it those here that have Chinese letters."""

from __future__ import annotations

CJK_FONTS = ("Noto Sans CJK SC", "Source Han Sans SC", "Microsoft YaHei", "PingFang SC", "WenQuanYi Zen Hei", "SimHei")


def font_families() -> list[str]:
    """The names for matplotlib's `font.family`, first choice first."""
    from matplotlib.font_manager import get_font_names

    installed = set(get_font_names())
    return ["DejaVu Sans", *(font for font in CJK_FONTS if font in installed)]
