"""The program: its commands, in the order of --help, and the options before them."""

from __future__ import annotations

from typing import Annotated

import typer

from pmtrain.cli.data_commands import cache, check, preview, split, synth
from pmtrain.cli.deploy_commands import export, serve
from pmtrain.cli.failures import guarded, set_debug
from pmtrain.cli.flags import Command
from pmtrain.cli.image_commands import explain, predict
from pmtrain.cli.info_commands import env, trace_shapes
from pmtrain.cli.model_commands import calibrate, fit_domain
from pmtrain.cli.score_commands import compare, evaluate
from pmtrain.cli.train_commands import pretrain, report, train
from pmtrain.system import console
from pmtrain.system.version import __version__

COMMANDS = {
    "train": train,
    "pretrain": pretrain,
    "eval": evaluate,
    "report": report,
    "compare": compare,
    "calibrate": calibrate,
    "predict": predict,
    "explain": explain,
    "fit-domain": fit_domain,
    "export": export,
    "serve": serve,
    "trace-shapes": trace_shapes,
    "env": env,
}
DATA_COMMANDS = {
    "check": check,
    "split": split,
    "preview": preview,
    "cache": cache,
    "synth": synth,
}

app = typer.Typer(
    name="pmtrain",
    help="Train and evaluate medical image classifiers with PaddlePaddle.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app = typer.Typer(help="Check, split and preview data sets.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(data_app, name="data")

for group, commands in ((app, COMMANDS), (data_app, DATA_COMMANDS)):
    for name, command in commands.items():
        group.command(name, cls=Command)(guarded(command))


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
        set_debug()


def main() -> None:
    """The console script."""
    console.use_utf8()
    app()
