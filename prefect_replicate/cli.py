"""The command `prefect-replicate`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import cyclopts
from cyclopts import Parameter

from prefect_replicate._version import __version__
from prefect_replicate.exceptions import ConfigurationError, ReplicateError
from prefect_replicate.text import printable

_USAGE, _FAILED, _INTERRUPTED = 2, 1, 130

app = cyclopts.App(
    name="prefect-replicate",
    help="Run models on Replicate with Prefect.",
    version=__version__,
    help_format="markdown",
)


@app.command
def demo(
    *,
    keep: Annotated[bool, Parameter(negative=())] = False,
    real: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Generate a video on a local Replicate, with a temporary Prefect server.

    Args:
        keep: Keep both running, with a deployment to run from the Prefect UI, until Ctrl-C.
        real: Run on Replicate itself, which costs money; needs `REPLICATE_API_TOKEN`.
    """
    try:
        from prefect_replicate.demo.show import show
    except ModuleNotFoundError as exc:
        raise ConfigurationError(str(exc)) from exc
    return show(keep=keep, real=real)


@app.command
def emulator(
    *,
    port: int = 5005,
    schema: Annotated[list[str] | None, Parameter(negative=())] = None,
    official: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Run a local Replicate until Ctrl-C.

    Args:
        port: Port of its API; 0 picks a free one.
        schema: A model to add, as `owner/name=FILE`; can be given several times. The file holds the
            `openapi_schema` of one of its versions, as JSON.
        official: Add the models as official ones, which run by `owner/name` as well as by version.
    """
    files = dict(map(_model_and_file, schema or []))
    # The error of a missing extra says how to install it.
    try:
        from prefect_replicate.emulator import serve

        serve(port, schemas=files, official=official)
    except (ModuleNotFoundError, OSError, ValueError) as exc:
        raise ConfigurationError(str(exc)) from exc


@app.command
def generate(
    model: str,
    /,
    *,
    prompt: str | None = None,
    input: Annotated[list[str] | None, Parameter(alias="-i", negative=())] = None,
    image: str | None = None,
    duration: float | None = None,
    aspect_ratio: str | None = None,
    resolution: str | None = None,
    seed: int | None = None,
    negative_prompt: str | None = None,
    destination: str | None = None,
    timeout: float | None = None,
    block: str | None = None,
) -> int:
    """Generate a video as a run of the flow `generate-video`, and print the path of the file.

    Args:
        model: `owner/name`, `owner/name:version`, a 64-hex version, or `deployment:owner/name`.
        prompt: What the video should show; leave it out for a model that takes no text.
        input: An input by the model's own name, as `key=value`: text where the model takes text,
            else JSON, or a local file after `@`. Overrides the options below.
        image: First frame: a URL or a local file.
        duration: Length in seconds.
        aspect_ratio: Such as `16:9`.
        resolution: Such as `720p`.
        seed: For reproducible results.
        negative_prompt: What to keep out of the video.
        destination: A directory, a URL such as `s3://bucket/folder`, or `block:type-slug/name` for
            a storage block. By default, `~/replicate`.
        timeout: Seconds after which the prediction is canceled; an hour by default.
        block: Name of a saved `ReplicateCredentials` block; by default, `REPLICATE_API_TOKEN` is
            used.
    """
    wishes = {
        "image": image,
        "duration": duration,
        "aspect_ratio": aspect_ratio,
        "resolution": resolution,
        "seed": seed,
        "negative_prompt": negative_prompt,
        "destination": destination,
        "timeout": timeout,
    }
    options = {name: value for name, value in wishes.items() if value is not None}
    return _run("generate_video", model, block, input, options | {"prompt": prompt})


@app.command
def run(
    model: str,
    /,
    *,
    input: Annotated[list[str] | None, Parameter(alias="-i", negative=())] = None,
    secret: Annotated[list[str] | None, Parameter(negative=())] = None,
    destination: str | None = None,
    timeout: float | None = None,
    block: str | None = None,
) -> int:
    """Run any model as a run of the flow `run-model`, and print what it makes.

    Text and JSON are printed; files are stored, and their paths are printed.

    Args:
        model: `owner/name`, `owner/name:version`, a 64-hex version, or `deployment:owner/name`.
        input: An input by the model's own name, as `key=value`: text where the model takes text,
            else JSON, or a local file after `@`.
        secret: A secret input, as `key=secret-block`, with the name of the saved Secret block that
            holds it.
        destination: Where to store files; see `generate`.
        timeout: Seconds after which the prediction is canceled; an hour by default.
        block: Name of a saved `ReplicateCredentials` block; by default, `REPLICATE_API_TOKEN` is
            used.
    """
    options: dict[str, Any] = {} if destination is None else {"destination": destination}
    if secret:
        options["secrets"] = _texts_from(secret, "--secret")
    if timeout is not None:
        options["timeout"] = timeout
    return _run("run_model", model, block, input, options)


@app.command
def inputs(model: str, /, *, block: str | None = None) -> None:
    """Show a model's inputs.

    Args:
        model: `owner/name`, `owner/name:version`, or `deployment:owner/name`.
        block: Name of a saved `ReplicateCredentials` block; by default, `REPLICATE_API_TOKEN` is
            used.
    """
    from prefect_replicate import terminal

    terminal.inputs(model, block)


@app.command
def deploy(
    model: str | None = None,
    /,
    *,
    name: str | None = None,
    pool: str | None = None,
    serve: Annotated[bool, Parameter(negative=())] = False,
    cron: str | None = None,
    input: Annotated[list[str] | None, Parameter(alias="-i", negative=())] = None,
    secret: Annotated[list[str] | None, Parameter(negative=())] = None,
    destination: str | None = None,
    block: str | None = None,
    check: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Deploy a model to Prefect, with a form of the model's own inputs.

    Args:
        model: `owner/name`, `owner/name:version`, or `deployment:owner/name`.
        name: Name of the deployment; `owner-name` by default.
        pool: The work pool whose workers run it; they need prefect-replicate installed.
        serve: Run it in this process, until Ctrl-C.
        cron: When to run it, such as `0 7 * * *`; each run costs money.
        input: Default input of its runs, as `key=value`; like `run`, but without local files.
        secret: A secret input, as `key=secret-block`, with the name of the saved Secret block that
            holds it.
        destination: Where to store files, unless the form says otherwise: a directory, a URL such
            as `s3://bucket/folder`, or `block:type-slug/name`. By default, the settings decide.
        block: Name of a saved `ReplicateCredentials` block; by default, `REPLICATE_API_TOKEN` is
            used.
        check: List how the models of deployments have changed since; exits with 1 if any has.
    """
    from prefect_replicate import terminal

    if check:
        return 0 if terminal.check_deployments() else _FAILED
    if model is None:
        raise UsageError("deploy takes a model such as owner/name, or --check")
    wishes: dict[str, Any] = {
        "name": name,
        "work_pool_name": pool,
        "cron": cron,
        "input": terminal.typed(model, block, input_from(input or [])) or None,
        "secrets": _texts_from(secret, "--secret") if secret else None,
        "destination": destination,
    }
    options = {name: value for name, value in wishes.items() if value is not None}
    terminal.deploy(model, block, serve=serve, options=options)
    return 0


def _run(
    flow: str, model: str, block: str | None, input: list[str] | None, options: dict[str, Any]
) -> int:
    import prefect_replicate
    from prefect_replicate import terminal

    given = input_from(input or [])
    terminal.check(model, block)
    if not terminal.has_prefect():
        return terminal.again_with_prefect(sys.argv[1:])
    options["input"] = terminal.typed(model, block, given)
    made = terminal.run(getattr(prefect_replicate, flow), model, block, options)
    if made.text is not None:
        print(printable(made.text))
    elif not made.has_files_alone:
        print(json.dumps(made.output, ensure_ascii=False))
    for file in made.files:
        print(file.location)
    return 0


@app.command
def orphans(
    *,
    cancel: Annotated[bool, Parameter(negative=())] = False,
    grace: float = 300.0,
    block: str | None = None,
) -> int:
    """List predictions that no flow run waits for; exits with 1 if one could not be handled.

    Args:
        cancel: Also cancel them.
        grace: Seconds after a flow run ends before its predictions count as orphaned.
        block: Name of a saved `ReplicateCredentials` block, for predictions that were created
            without one; by default, `REPLICATE_API_TOKEN` is used.
    """
    from prefect_replicate import terminal

    found = terminal.orphans(cancel=cancel, grace=grace, block=block)
    return _FAILED if any(one.outcome == "failed" for one in found) else 0


@app.command
def limits(
    *,
    creates_per_minute: int | None = None,
    remove: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Show or set how many predictions all flow runs of the Prefect server together may create.

    This is the global concurrency limit `replicate-creates`, which they follow once it exists.

    Args:
        creates_per_minute: Create or change the limit; Replicate allows 600, and 6 with little
            credit.
        remove: Remove the limit instead.
    """
    from prefect_replicate import terminal

    if creates_per_minute is not None and remove:
        raise UsageError(
            "--creates-per-minute sets the limit and --remove lifts it: give one of the two"
        )
    if creates_per_minute is not None and creates_per_minute < 1:
        raise UsageError(f"--creates-per-minute must be at least 1, not {creates_per_minute}")
    terminal.limits(creates_per_minute, remove=remove)


def input_from(pairs: list[str]) -> dict[str, Any]:
    """Read a model's input from `key=value` pairs: texts, and files after `@`.

    Raises:
        UsageError: A pair has no `=`, repeats a name, or names a file that does not exist.
    """
    given = dict[str, Any]()
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not name or not equals:
            raise UsageError(f"-i takes key=value, not {pair!r}")
        if name in given:
            raise UsageError(f"-i {name} is given twice; a list is written as {name}='[…]'")
        given[name] = _file(name, text[1:]) if text.startswith("@") else text
    return given


def _file(name: str, text: str) -> Path:
    file = Path(text).expanduser()
    if not file.is_file():
        raise UsageError(f"-i {name}: there is no file {text!r}")
    return file


def _texts_from(pairs: list[str], option: str) -> dict[str, str]:
    found = dict[str, str]()
    for pair in pairs:
        name, _, text = pair.partition("=")
        if not name or not text:
            raise UsageError(f"{option} takes key=value, not {pair!r}")
        found[name] = text
    return found


def _model_and_file(pair: str) -> tuple[str, Path]:
    name, equals, file = pair.partition("=")
    if not name or not equals or not file:
        raise UsageError(f"--schema takes owner/name=FILE, not {pair!r}")
    return name, Path(file).expanduser()


class UsageError(Exception):
    """The command line is invalid."""


def main() -> NoReturn:
    """Run the command line, and exit with 0, 1 for a failure, 2 for wrong usage, 130 for Ctrl-C."""
    sys.exit(_exit_code())


def _exit_code() -> int:
    try:
        result = app(
            sys.argv[1:], exit_on_error=False, print_error=False, result_action="return_value"
        )
        return result or 0
    except cyclopts.UnknownOptionError as exc:
        return _complain(_with_hint(exc), _USAGE)
    except (cyclopts.CycloptsError, UsageError) as exc:
        return _complain(exc, _USAGE)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except ReplicateError as exc:
        return _complain(exc, _FAILED)


def _with_hint(error: cyclopts.UnknownOptionError) -> Exception:
    """Say how a model's own input is given, if it was given as an option."""
    option = error.token.keyword or error.token.value
    if not error.command_chain or error.command_chain[0] not in ("run", "deploy"):
        return error
    name = option.lstrip("-").partition("=")[0].replace("-", "_")
    return UsageError(f"{error} An input of the model is given as -i {name}=VALUE.")


def _complain(error: Exception, exit_code: int) -> int:
    text = " ".join(str(error).split()) or type(error).__name__
    print(f"prefect-replicate: {text}", file=sys.stderr)
    return exit_code


if __name__ == "__main__":
    main()
