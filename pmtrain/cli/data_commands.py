"""`pmtrain data ...`: what is done with data sets before training."""

from __future__ import annotations

from typing import Any

import typer

from pmtrain.cli.flags import with_options
from pmtrain.config import CacheConfig, CheckConfig, PreviewConfig, SplitConfig, SynthConfig, load_config
from pmtrain.system import console


@with_options(CheckConfig)
def check(**flags: Any) -> None:
    """Check a data set for problems before training.

    Decodes every image and reports damaged files, blank images, duplicates, patients in several splits, and more;
    nothing is changed. The exit code is 1 if there is an error. Without DATA, data/ is searched.
    """
    checked = load_config(CheckConfig, flags)
    from pmtrain.data.audit import check as audit

    raise typer.Exit(audit.check(checked))


@with_options(SplitConfig)
def split(**flags: Any) -> None:
    """Split a data set by patient, as a table for --data.

    Into train, val and test, or into folds for cross-validation. No image is moved or changed. The same data and seed
    give the same table on every system. Without DATA, data/ is searched.
    """
    checked = load_config(SplitConfig, flags)
    from pmtrain.data.splits import split_command as splitting

    splitting.split(checked)


@with_options(PreviewConfig)
def preview(**flags: Any) -> None:
    """Show augmented training images in a contact sheet.

    One row per image: as it is, and as the first epochs of a training augment it. Without DATA, data/ is searched.
    """
    checked = load_config(PreviewConfig, flags)
    from pmtrain.data import preview as sheet

    sheet.preview(checked)


@with_options(CacheConfig)
def cache(**flags: Any) -> None:
    """Show or shrink the cache of decoded images.

    It is in the folder PMTRAIN_CACHE, by default in this system's folder for caches.
    """
    checked = load_config(CacheConfig, flags)
    from pmtrain.data.loading import cache_folder as images

    console.result(images.clean(0 if checked.clear else checked.limit))


@with_options(SynthConfig)
def synth(**flags: Any) -> None:
    """Generate a SYNTHETIC example data set.

    Images that look like fundus photographs, drawn by a program, in the layout of iChallenge-PM.
    """
    checked = load_config(SynthConfig, flags)
    from pmtrain.data import select

    select.make_synthetic(checked.output, checked.seed, checked.train, checked.val)
