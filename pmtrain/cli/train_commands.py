"""`pmtrain train`, `pretrain` and `report`: a run, weights to start one from, and the page about it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from pmtrain.cli.failures import show_traceback
from pmtrain.cli.flags import use_processes, use_threads, with_options
from pmtrain.config import PretrainConfig, ReportConfig, TrainConfig, flag_of, load_config
from pmtrain.config.options import RUN
from pmtrain.system import console, parallel
from pmtrain.system.errors import UsageError
from pmtrain.system.hardware import thread_count

if TYPE_CHECKING:
    from pmtrain.evaluation.scores.scoring import Scored


@with_options(TrainConfig)
def train(
    config: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(rich_help_panel=RUN, help="YAML file of options, or a recipe's name; flags override it."),
    ] = None,
    resume: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(rich_help_panel=RUN, help="Run folder to continue, as if it had never stopped."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", rich_help_panel=RUN, help="Check everything, take one step, write nothing.")
    ] = False,
    **flags: Any,
) -> None:
    """Train a classifier on labelled images.

    Without DATA, data/ is searched; if it holds no data set, a SYNTHETIC one is generated there.
    """
    if resume and config:
        raise UsageError("--resume continues with the run's own options", "leave --config out")
    checked = load_config(TrainConfig, flags, config)
    kept = checked
    if resume:
        from pmtrain.runs.run_folder import RunFolder

        kept = RunFolder.open(resume).config()
    threads = checked.threads or kept.threads  # a different count than the run's would alter the last bits
    processes = flags["nproc"] or kept.nproc
    together = kept.folds or kept.seeds  # whole trainings side by side
    here = parallel.here()
    if together and here.size > 1:
        raise UsageError("several trainings are started by one process", "leave Paddle's launcher out; give --nproc")
    if together:
        use_threads(max(1, (threads or thread_count()) // min(processes, together)) if processes > 1 else threads)
    else:
        if max(processes, here.size) > 1:
            _require_shareable(kept)
        elif kept.sync_bn:
            raise UsageError("--sync-bn with one process, which has all images", "leave it out, or give --nproc")
        here = use_processes(1 if dry_run else processes, threads)
    from pmtrain.training import train
    from pmtrain.training.several import trainings

    if here.rank:
        code = train.follow()
    elif resume:
        code = (trainings if together else train).resume(resume, flags, report_finished)
    elif dry_run:
        code = (trainings if together else train).dry_run(checked)
    else:
        code = (trainings if together else train).train(checked, report_finished)
    raise typer.Exit(code)


@with_options(PretrainConfig)
def pretrain(
    resume: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(rich_help_panel=RUN, help="Folder of a pre-training to continue, as if it had never stopped."),
    ] = None,
    **flags: Any,
) -> None:
    """Pre-train a network on images without labels.

    It learns features by SimSiam: two versions of each image, changed at random, should be told alike. The result is
    for `pmtrain train --weights`.
    """
    checked = load_config(PretrainConfig, flags)
    threads = checked.threads
    if resume and threads is None and (kept := resume / "options.yaml").is_file():
        threads = load_config(PretrainConfig, {}, kept).threads  # another count would alter the last bits
    use_threads(threads)
    from pmtrain.training import pretrain as pretraining

    raise typer.Exit(pretraining.resume(resume, flags) if resume else pretraining.pretrain(checked))


def _require_shareable(config: TrainConfig) -> None:
    """Raises: UsageError, where several processes can't share the batches."""
    reasons = {
        "mixup": "it mixes images that are in different processes",
        "cutmix": "it mixes images that are in different processes",
    }
    for name, reason in reasons.items():
        if value := getattr(config, name):
            raise UsageError(f"{flag_of(name)} {value} with --nproc: {reason}", "leave one of them out")
    if config.sync_bn and (config.freeze is not None or config.warmup_head):
        raise UsageError("--sync-bn with --freeze or --warmup-head: Paddle can't freeze it", "leave one of them out")
    if config.sync_bn and (not config.drop_last or config.on_bad_image == "skip"):
        raise UsageError(
            "--sync-bn: every process must have images in every batch, or all would wait for it",
            "give --drop-last, and leave --on-bad-image skip out; Paddle has it for GPUs alone",
        )


@with_options(ReportConfig)
def report(
    run: Annotated[Path, typer.Argument(help="A run folder, or that of several trainings (--folds, --seeds).")],
    **flags: Any,
) -> None:
    """Write an HTML report about a run or several.

    One file with the data, the curves, all metrics, the errors and how to reproduce them; it opens without a network.
    Without DATA, it uses the run's own validation images; device, precision and the like are those of the run. It
    contains images and file names of the data: mind whom you give it to.
    """
    checked = _report_config(run, flags)
    use_threads(checked.threads)
    from pmtrain.evaluation import report as reporting

    file = reporting.report(run, checked)
    console.result(str(file))


def report_finished(run: Path, scored: Scored | None) -> None:
    """Write the report of a run that has just finished; a failure is only a warning, since the run itself is whole."""
    try:
        from pmtrain.evaluation import report as reporting

        with console.hushed():  # the training has described its data already
            file = reporting.report(run, _report_config(run, {}), scored)
    except (Exception, KeyboardInterrupt) as error:
        show_traceback()
        reason = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error) or type(error).__name__
        again = console.quoted(Path("pmtrain"), "report", run)
        console.warn(f"the run is complete, but its report wasn't written: {reason}\nhint: try {again}")
    else:
        console.notice(f"report: {file}")


def _report_config(run: Path, flags: dict[str, Any]) -> ReportConfig:
    """The options of a report: what was given, else what the run was trained with, so that its numbers are the same."""
    from pmtrain.runs.run_folder import RunFolder

    return RunFolder.open(run).report_config({key: value for key, value in flags.items() if value is not None})
