"""The keys of a run's JSON files that older versions wrote under another name. They are read for one release."""

from __future__ import annotations

from typing import Any

# Kind of file -> path of the old key -> the name that it has now, in the same place.
RENAMED: dict[str, dict[tuple[str, ...], str]] = {
    "side file": {("pixel_deviation",): "pixel_std", ("scores",): "metrics"},
    "run.json": {("pixels", "deviation"): "std", ("fold", "of"): "n_folds", ("folds", "of"): "n_folds"},
}


def with_new_keys(kind: str, content: Any) -> Any:
    """Give the old keys of a file's content, as `json.loads` returned it, their new names; the content is changed.

    A key that is there under both names keeps the new one's value. Content of another shape is left as it is: it is
    for the reader to refuse it.

    Args:
        kind: a row of RENAMED.
    """
    for (*parents, old), new in RENAMED[kind].items():
        place = content
        for key in parents:
            place = place.get(key) if isinstance(place, dict) else None
        if isinstance(place, dict) and old in place:
            value = place.pop(old)
            place.setdefault(new, value)
    return content
