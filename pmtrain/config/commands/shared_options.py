"""Options that several commands take, so that each has one help text and one place; the command gives the default."""

from __future__ import annotations

from typing import Annotated, Literal

from pmtrain.config.options import DATA, EVALUATION, MACHINE, NETWORK, OUTPUT, RUN, TRAINING, option
from pmtrain.config.values import OneOf

OnBadImage = Annotated[
    Literal["stop", "skip"],
    option(DATA, "What to do with an image that can't be decoded: stop, or skip it and report it."),
]
ValFraction = Annotated[
    float, option(DATA, "Share of the images to validate on if the data has no validation split.", gt=0, lt=1)
]
Folds = Annotated[int | None, option(DATA, "Number of folds for cross-validation.", ge=2, le=100)]
Layers = Annotated[int, OneOf("pmtrain.models:DEPTHS"), option(NETWORK, "Depth of the ResNet.")]
ImageSize = Annotated[int, option(NETWORK, "Width and height of the network's input in pixels.", ge=32, le=4096)]
PreprocessName = Annotated[
    str,
    OneOf("pmtrain.data.preprocessing.preprocess:PREPROCESSING"),
    option(
        NETWORK,
        "Preprocessing. notes: the whole image, stretched to a square; fundus: the field of view, padded to a square,"
        " normalized by the training set's mean and standard deviation; imagenet: the centre crop, normalized by"
        " ImageNet's; fundus-local: the field of view, with each image's local mean subtracted, then normalized by its"
        " own statistics; standardised: the whole image, normalized by its own mean and standard deviation.",
    ),
]
AlignEyes = Annotated[
    bool,
    option(
        NETWORK,
        "Mirror right eyes, so that all look like left ones (fundus photographs). The eye is known from a column `eye`,"
        " the file name (12_left, 12_OD) or the optic disc's side; an image where it is unknown is left as it is.",
    ),
]
AugmentName = Annotated[
    str,
    OneOf("pmtrain.data.preprocessing.augment:AUGMENTATIONS"),
    option(
        TRAINING,
        "Data augmentation; `pmtrain data preview` shows it. light: mirror images, small rotations and shifts; fundus:"
        " any rotation, and changes of light, colour and sharpness; camera: any rotation, strong colour changes, some"
        " images grey; camera-noise: the same, and some images blurred, noisy or compressed; general: as camera, with"
        " rotations up to 20 degrees and half the strength; pathology: right angles and changes of the amount of"
        " stain.",
    ),
]
AugmentStrength = Annotated[
    float,
    option(
        TRAINING,
        "Strength of augmentation's changes of light, colour and sharpness, as a multiple of the usual; 0 leaves the"
        " geometry.",
        ge=0,
        le=4,
        allow_inf_nan=False,
    ),
]
CacheLimit = Annotated[
    float | None,
    option(
        MACHINE,
        "Disk space in GiB for decoded images that later runs reuse; 0 keeps this run's images in memory only."
        "  [default: a fifth of the free disk, at most 32]",
        ge=0,
        allow_inf_nan=False,
    ),
]
Tta = Annotated[
    bool,
    option(EVALUATION, "Test-time augmentation: average the logits of each image and its mirror image."),
]
TtaViews = Annotated[
    Annotated[str, OneOf("pmtrain.evaluation.scores.views:VIEWS")] | None,
    option(
        EVALUATION,
        "Test-time augmentation with these views. mirror: as --tta; turns: by 0, 90, 180 and 270 degrees; mirror-turns:"
        " both, eight views; scales: the training size and 9/8 of it, the safe choice for photographs of another"
        " framing.",
    ),
]
AdaptBn = Annotated[
    bool,
    option(
        EVALUATION,
        "Estimate the batch norms' statistics on these images first, at least 50, all of one camera: each score then"
        " depends on the other images too.",
    ),
]
PatientPattern = Annotated[
    str | None,
    option(
        DATA,
        "Regular expression that finds the patient in a file name, '(\\d+)_(left|right)', or a known pattern:"
        " left-right, breakhis, chest-xray.",
    ),
]
Aggregate = Annotated[
    Annotated[str, OneOf("pmtrain.evaluation.scores.units:AGGREGATES")] | None,
    option(
        EVALUATION,
        "With --unit: how a unit's images make its score. mean; max; noisy-or: P(at least one image is positive);"
        " top-3: mean of the three highest; share: of images at or above the threshold."
        "  [default: what `pmtrain calibrate --unit` chose, else mean]",
    ),
]
Prevalence = Annotated[
    float | None,
    option(
        EVALUATION,
        "Share of positives among the patients that the results are for, such as 0.02: predictive values, expected"
        " calls in 1,000 patients, and probabilities shifted to it. The decisions stay the same.",
        gt=0,
        lt=1,
    ),
]
Seed = Annotated[int, option(RUN, "Random seed.", ge=0, lt=2**31)]
BatchSize = Annotated[int, option(NETWORK, "Batch size.", ge=1)]
TextFormat = Annotated[str, option(OUTPUT, "Format of the output: text for people, json for programs.")]
SharedNproc = Annotated[
    int,
    option(
        MACHINE, "Processes that share the images, batch by batch; Linux only. They share the threads.", ge=1, le=1024
    ),
]
Workers = Annotated[
    int,
    option(MACHINE, "Processes that decode images; they are only started if decoding is slow enough.", ge=0, le=64),
]
