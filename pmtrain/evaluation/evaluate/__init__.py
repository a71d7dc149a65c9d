"""`pmtrain eval`: a checkpoint's score for every image of a split -> metrics with intervals, printed and written."""

from __future__ import annotations

from collections.abc import Sequence

from pmtrain.config import EvalConfig
from pmtrain.evaluation.evaluate.measuring import Evaluation, examine
from pmtrain.evaluation.evaluate.network_pass import follow
from pmtrain.evaluation.evaluate.results import as_lines, require_new, write
from pmtrain.evaluation.scores.ensemble import AnyPath
from pmtrain.system import console
from pmtrain.system.parallel import join

__all__ = ["evaluate", "follow"]


def evaluate(path: AnyPath | Sequence[AnyPath], config: EvalConfig) -> Evaluation:
    """Print the notes' line and the metrics of the checkpoint at `path`, and write them to `config.output`.

    `path`: as of `load_networks`.

    Raises:
        PmtrainError: the checkpoint or the data can't be read, or `config.output` already holds results.
    """
    if config.output:
        require_new(config.output, bool(config.shift))
    evaluation = examine(path, config, processes=join())
    try:
        if config.output:
            write(config.output, evaluation)
    finally:  # a full disk still prints the results, and a closed pipe still leaves the files
        scores = evaluation.scored.scores
        console.result(console.validation_line(scores.accuracy, scores.loss))
        for line in as_lines(evaluation):
            console.result(line)
    return evaluation
