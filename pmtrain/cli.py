"""The command line: options in, one call out. Nothing here imports Paddle until a command runs."""

from __future__ import annotations

import functools
import inspect
import os
import sys
import traceback
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer
from pydantic import BaseModel

from pmtrain.config import (
    AS_TRAINED,
    CheckConfig,
    CompareConfig,
    EvalConfig,
    ExplainConfig,
    PredictConfig,
    PreviewConfig,
    ReportConfig,
    SplitConfig,
    TrainConfig,
    flag_of,
    load_config,
)
from pmtrain.config.options import SHORT_FLAGS, choices_of, kind_of
from pmtrain.system import console
from pmtrain.system.errors import PmtrainError, UsageError
from pmtrain.system.version import __version__

if TYPE_CHECKING:
    from pmtrain.evaluation.scores.scoring import Scored

app = typer.Typer(
    name="pmtrain",
    help="Train, evaluate and look into classifiers of medical images, on PaddlePaddle.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: the same on every console, and sooner there
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app = typer.Typer(help="Data sets.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(data_app, name="data")

INTERRUPTED = 130  # 128 + SIGINT, as shells report it


def guarded(command: Callable[..., Any]) -> Callable[..., Any]:
    """Turn what can go wrong into a message and an exit code, without a traceback unless --debug asks for one."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except (typer.Exit, typer.Abort):
            raise
        except BaseException as error:
            if _debug():
                traceback.print_exc()
            raise typer.Exit(_report(error)) from None

    return run


def _debug() -> bool:
    return bool(os.environ.get("PMTRAIN_DEBUG"))


def _report(error: BaseException) -> int:
    """Tell the person what went wrong; return the exit code."""
    if isinstance(error, PmtrainError):
        console.notice(f"error: {error}")
        return error.exit_code
    if isinstance(error, KeyboardInterrupt):
        console.notice("interrupted")
        return INTERRUPTED
    if isinstance(error, BrokenPipeError):  # the reader, `head` say, has had enough
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # so that closing the old one can't fail again
        return 1
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    if isinstance(error, ImportError) and ("libGL" in str(error) or "libgthread" in str(error)):
        console.notice(
            f"error: OpenCV can't be loaded, since this machine has no libGL: {error}\n"
            "hint: take the build that needs none: `pip uninstall -y opencv-python`, then "
            "`pip install opencv-python-headless`"
        )
    elif isinstance(error, MemoryError):
        console.notice("error: there is not enough memory\nhint: try a smaller --batch-size or --image-size")
    elif isinstance(error, OSError) and error.strerror:
        console.notice(f"error: {error.filename or 'the system'}: {error.strerror}")
    else:
        detail = " ".join(str(error).split())[:500]
        console.notice(
            f"error: {type(error).__name__}: {detail}\n"
            "hint: this is a fault in pmtrain. `pmtrain --debug ...` shows where; "
            "please report that together with what `pmtrain env` prints"
        )
    return 1


def with_options(model: type[BaseModel]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command one flag for each field of `model` that is no parameter of its own, after these.

    The command takes them as keywords, None where the flag isn't given, so that a file's value or the default counts.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        own = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.kind is not p.VAR_KEYWORD]
        made = [_flag(model, name) for name in model.model_fields if name not in {p.name for p in own}]

        @functools.wraps(command)
        def run(**kwargs: Any) -> Any:
            values = {k: v.value if isinstance(v, Enum) else v for k, v in kwargs.items()}
            return command(**{k: None if v == [] else v for k, v in values.items()})

        parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own] + made
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        return run

    return decorate


def _flag(model: type[BaseModel], name: str) -> inspect.Parameter:
    field = model.model_fields[name]
    kind, choices = kind_of(field), choices_of(field)
    off = f"/--no-{name.replace('_', '-')}" if field.default is True else ""
    names = [flag_of(name) + off, *([SHORT_FLAGS[name]] if name in SHORT_FLAGS else [])]
    default = "" if field.default in (None, []) else f"  [default: {field.default}]"
    # Typer is told no default: None must mean that the flag wasn't given.
    option = typer.Option(
        *names, help=f"{field.description}{default}", show_default=False, metavar="|".join(choices) or None
    )
    annotation = Annotated[Optional[kind], option]  # type: ignore[valid-type]  # noqa: UP045 (kind is a value)
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def use_threads(count: int | None) -> None:
    """Set the thread count where Paddle's libraries read it, which they do once, when they load."""
    if count is not None:
        os.environ["OMP_NUM_THREADS"] = str(count)


def _version(wanted: bool) -> None:
    if wanted:
        console.result(f"pmtrain {__version__}")
        raise typer.Exit()


@app.callback()
def _global_options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    if debug:
        os.environ["PMTRAIN_DEBUG"] = "1"


@app.command()
@guarded
@with_options(TrainConfig)
def train(
    config: Annotated[Optional[Path], typer.Option(help="YAML file of options; flags override it.")] = None,  # noqa: UP045
    resume: Annotated[Optional[Path], typer.Option(help="Run folder to go on with, as if it never stopped.")] = None,  # noqa: UP045
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, take one step, write nothing.")] = False,
    **flags: Any,
) -> None:
    """Train a ResNet from scratch on labelled images.

    Without --data, data/ is searched; if it holds no data set, a synthetic one is made there.
    """
    if resume and config:
        raise UsageError("--resume goes on with the run's own options", "leave --config out")
    checked = load_config(TrainConfig, flags, config)
    kept = checked
    if resume:
        from pmtrain.runs.run_folder import RunFolder

        kept = RunFolder.open(resume).config()
    use_threads(checked.threads or kept.threads)  # another count than the run's would alter the last bits
    from pmtrain.training import crossval, train

    if resume:
        code = crossval.resume(resume, flags) if kept.folds else train.resume(resume, flags, report_finished)
    elif dry_run:
        code = (crossval if kept.folds else train).dry_run(checked)
    else:
        code = crossval.train(checked) if kept.folds else train.train(checked, report_finished)
    raise typer.Exit(code)


def report_finished(run: Path, scored: Scored | None) -> None:
    """Write the report of a run that has just ended; what goes wrong is told, and the run stands."""
    try:
        from pmtrain.evaluation import report as reporting

        with console.hushed():  # the training has told of its data already
            file = reporting.report(run, _report_config(run, {}), scored)
    except (Exception, KeyboardInterrupt) as error:
        if _debug():
            traceback.print_exc()
        reason = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error) or type(error).__name__
        again = console.quoted(Path("pmtrain"), "report", run)
        console.warn(f"the run is whole, but its report wasn't written: {reason}\nhint: try {again}")
    else:
        console.notice(f"report: {file}")


def _report_config(run: Path, flags: dict[str, Any]) -> ReportConfig:
    """The options of a report: what was given, else what the run was trained with, so that the figures are its own."""
    from pmtrain.runs.run_folder import RunFolder

    kept = RunFolder.open(run).config()
    given = {key: value for key, value in flags.items() if value is not None}
    return load_config(ReportConfig, {key: getattr(kept, key) for key in AS_TRAINED} | given)


@app.command()
@guarded
@with_options(ReportConfig)
def report(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    **flags: Any,
) -> None:
    """Write one HTML file about a run: its data, its curves, every measure, its errors, and how to do it again.

    Without --data, the run's own validation images; device, precision and the like are those of the run. The page
    opens from disk, without a network. It shows photographs and names files of the data: mind whom you give it to.
    """
    checked = _report_config(run, flags)
    use_threads(checked.threads)
    from pmtrain.evaluation import report as reporting

    file = reporting.report(run, checked)
    console.result(str(file))


@app.command("eval")
@guarded
@with_options(EvalConfig)
def evaluate(
    checkpoint: Annotated[Path, typer.Argument(help="A .pdparams or .safetensors file, or a run folder.")],
    **flags: Any,
) -> None:
    """Evaluate a checkpoint on labelled images.

    Without --data, the data of the checkpoint's own run; else data/ is searched.
    """
    checked = load_config(EvalConfig, flags)
    use_threads(checked.threads)
    from pmtrain.evaluation import evaluate as evaluation

    evaluation.evaluate(checkpoint, checked)


@app.command()
@guarded
@with_options(CompareConfig)
def compare(
    a: Annotated[Path, typer.Argument(help="A .pdparams or .safetensors file, or a run folder.")],
    b: Annotated[Path, typer.Argument(help="Another.")],
    **flags: Any,
) -> None:
    """Compare two checkpoints on the same images: is the one better, and by how much?

    Without --data, the data of the first one's own run; else data/ is searched.
    """
    checked = load_config(CompareConfig, flags)
    use_threads(checked.threads)
    from pmtrain.evaluation import compare as comparison

    comparison.compare(a, b, checked)


@app.command("trace-shapes")
@guarded
def trace_shapes(
    layers: Annotated[int, typer.Option(help="Depth of the ResNet: 50, 101 or 152.")] = 50,
    batch_size: Annotated[int, typer.Option("--batch-size", "-b", min=1, help="Images in the batch.")] = 10,
    image_size: Annotated[int, typer.Option(min=32, max=4096, help="Side of the images in pixels.")] = 224,
    format: Annotated[
        str, typer.Option(metavar="text|table|json", help="text: the notes' print; table: for people.")
    ] = "text",
) -> None:
    """Print every layer's shapes, from a real forward pass."""
    from pmtrain.models import trace

    if format not in trace.FORMATS:
        raise UsageError(f"--format {format!r}: there are {', '.join(trace.FORMATS)}")
    console.result(trace.FORMATS[format](trace.trace(layers, batch_size, image_size)))


@app.command()
@guarded
def env(
    format: Annotated[str, typer.Option(metavar="text|json", help="text for people, json for programs.")] = "text",
) -> None:
    """Print what a bug report needs: versions, processor, devices, threads."""
    from pmtrain.models.backends.device import gpu_names
    from pmtrain.system import environment

    if format not in environment.FORMATS:
        raise UsageError(f"--format {format!r}: there are {', '.join(environment.FORMATS)}")
    console.result(environment.FORMATS[format](environment.describe(gpu_names())))


@data_app.command()
@guarded
def synth(
    output: Annotated[Path, typer.Option(help="Folder to make.")] = Path("data/synthetic-pm"),
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same images.")] = 0,
    train: Annotated[int, typer.Option(min=4, help="Training images.")] = 400,
    val: Annotated[int, typer.Option(min=4, help="Validation images.")] = 400,
) -> None:
    """Make the synthetic data set: fundus-like photographs drawn by a program, in the iChallenge-PM layout."""
    from pmtrain.data import select

    select.make_synthetic(output, seed, train, val)


@data_app.command()
@guarded
@with_options(PreviewConfig)
def preview(**flags: Any) -> None:
    """Draw a contact sheet: training images as they are, and as the first epochs of a training change them."""
    checked = load_config(PreviewConfig, flags)
    from pmtrain.data import preview as sheet

    sheet.preview(checked)


@data_app.command("check")
@guarded
@with_options(CheckConfig)
def check_data(
    folder: Annotated[Optional[Path], typer.Argument(metavar="[DATA]", help="The same as --data.")] = None,  # noqa: UP045
    **flags: Any,
) -> None:
    """Decode every image and name what makes a data set unfit to train on; nothing is changed.

    Damaged files, blank images, duplicates, patients in several splits, and more. The exit code is 1 where there is
    an error. Without DATA, data/ is searched.
    """
    if folder is not None and flags["data"] is not None:
        raise UsageError(f"{folder} and --data {flags['data']}: the data is named twice", "name it once")
    checked = load_config(CheckConfig, flags | {"data": folder or flags["data"]})
    from pmtrain.data.audit import check

    raise typer.Exit(check.check(checked))


@data_app.command()
@guarded
@with_options(SplitConfig)
def split(
    data: Annotated[Path, typer.Argument(help="Folder or table of labelled images.")],
    **flags: Any,
) -> None:
    """Split a data set by patient into train, val and test, or into folds, and write it as a table for --data.

    No image is moved or changed. Equal data and seed give the same table whatever the system.
    """
    from pmtrain.data.splits import split_command as splitting

    splitting.split(load_config(SplitConfig, {"data": data} | flags))


@data_app.command("cache")
@guarded
def data_cache(
    limit: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(min=0, metavar="GIB", help="Throw out what wasn't used for longest until so much is left."),
    ] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Throw out everything.")] = False,
) -> None:
    """Show the decoded images that are kept on disk for later runs, and throw some or all of them out.

    They lie in PMTRAIN_CACHE, or else in this system's folder for caches.
    """
    from pmtrain.data.loading import cache

    console.result(cache.clean(0 if clear else limit))


@app.command()
@guarded
@with_options(PredictConfig)
def predict(
    checkpoint: Annotated[Path, typer.Argument(help="A .pdparams or .safetensors file, or a run folder.")],
    images: Annotated[list[str], typer.Argument(help="Images, folders of images, or patterns like 'photos/*.jpg'.")],
    **flags: Any,
) -> None:
    """Print a probability and a prediction for every image, by the checkpoint's threshold.

    An image that can't be read is a row with its error; the others are predicted, and the exit code is 1.
    """
    checked = load_config(PredictConfig, flags)
    use_threads(checked.threads)
    from pmtrain.evaluation import predict as prediction

    raise typer.Exit(prediction.predict(checkpoint, images, checked))


@app.command()
@guarded
@with_options(ExplainConfig)
def explain(
    checkpoint: Annotated[Path, typer.Argument(help="A .pdparams or .safetensors file, or a run folder.")],
    images: Annotated[list[str], typer.Argument(help="Images, folders of images, or patterns like 'photos/*.jpg'.")],
    **flags: Any,
) -> None:
    """Show where in an image the network finds what speaks for the positive class (Grad-CAM).

    Writes NAME.gradcam.png, the map over the image beside the original, and NAME.gradcam.npy, the map itself:
    float32, not scaled, in units of the logit.
    """
    checked = load_config(ExplainConfig, flags)
    use_threads(checked.threads)
    from pmtrain.evaluation import explain as explanation

    raise typer.Exit(explanation.explain(checkpoint, images, checked))


def main() -> None:
    """The console script."""
    console.use_utf8()
    app()
