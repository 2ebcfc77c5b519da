"""The command line: the package's verbs, one line for every mistake, exit code 1."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from villageflow import library
from villageflow.errors import (
    CalibrationError,
    DesignError,
    EstimationError,
    ReportError,
    VillageflowError,
    did_you_mean,
)
from villageflow.names import split_names, variable_id

if TYPE_CHECKING:
    from villageflow.ir.model import Model

app = typer.Typer(
    name="villageflow", add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False,
    help="Stock-flow models of rural e-commerce: run, ensembles, estimates, calibration.",
)

ModelArgument = Annotated[
    str, typer.Argument(metavar="MODEL", help="A .mdl, .xmile or .stmx file, or a shipped model's name.")
]
SaveOption = Annotated[str, typer.Option(help="Variables to keep, separated by commas; default all.", metavar="A,B")]
StepOption = Annotated[float | None, typer.Option(help="Time step, instead of the model's.")]
FinalOption = Annotated[float | None, typer.Option(help="Final time, instead of the model's.")]
EveryOption = Annotated[float | None, typer.Option(help="Saving period, instead of the model's.")]
MethodOption = Annotated[str | None, typer.Option(help="euler, rk4 or dopri5, instead of the model's.")]
ToleranceOption = Annotated[float | None, typer.Option(help="Error of a step, for dopri5; default 1e-6.")]
NoiseSeedOption = Annotated[int, typer.Option(help="Seed of the model's random functions.")]
PriorsOption = Annotated[
    Path | None, typer.Option(help="parameters.csv, see docs/tables.md; default: the one beside the model.")
]
ScenariosOption = Annotated[
    Path | None, typer.Option(help="scenarios.csv, see docs/tables.md, to run over the same members.")
]
DataOption = Annotated[
    list[Path] | None,
    typer.Option("--data", help="File with the values of data variables that have no equation; can be repeated."),
]
OutputOption = Annotated[Path, typer.Option(help="File to write: .nc or .csv.")]


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"villageflow {version('villageflow')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and stop.")
    ] = False,
) -> None:
    pass


# typer bundles its parser and exports no name for the base of its errors
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]


def main() -> None:
    """Entry point of the ``villageflow`` command."""
    try:
        code = app(sys.argv[1:] or ["--help"], standalone_mode=False)
    except VillageflowError as error:
        _fail(str(error))
    except _UsageError as error:
        message = error.format_message() if hasattr(error, "format_message") else str(error)
        context = getattr(error, "ctx", None)
        verb = f" {context.info_name}" if context is not None and context.parent is not None else ""
        _fail(f"{message.rstrip('.')}; see villageflow{verb} --help")
    except (typer.Abort, KeyboardInterrupt):
        _fail("stopped")
    except BrokenPipeError:
        sys.exit(1)
    except OSError as error:
        _fail(f"{error.filename or 'the output'}: {error.strerror or error}; give another place to write to")
    except MemoryError as error:
        _fail(f"not enough memory ({error}); ask for fewer members, variables or saved times")
    except ImportError as error:
        if type(error).__name__ != "KernelsMissingError":
            raise
        _fail(str(error))
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str) -> None:
    print(f"villageflow: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(1)


def _model(name: str, data: list[Path] | None = None) -> Model:
    if _is_file(name):
        return library.read_model(name, data_files=data or ())
    if data:
        raise DesignError(f"the shipped model {name!r} has no data variables; leave out --data")
    return library.read(name)


def _is_file(model: str) -> bool:
    """A folder is none: a shipped model may be named where its folder is."""
    return Path(model).is_file() or bool(Path(model).suffix)


def _names(text: str) -> list[str] | None:
    return split_names(text) or None


@app.command()
def run(
    model: ModelArgument,
    output: Annotated[Path | None, typer.Option(help="File to write: .csv or .nc; default: CSV to the screen.")] = None,
    params: Annotated[Path | None, typer.Option(help="CSV with columns name,value; see docs/tables.md.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="One parameter; may be repeated.", metavar="NAME=VALUE")
    ] = None,
    archetype: Annotated[
        str, typer.Option(help="A region of the archetypes.csv beside the model; --params and --set come on top.")
    ] = "",
    save: SaveOption = "",
    time_step: StepOption = None,
    final_time: FinalOption = None,
    save_every: EveryOption = None,
    method: MethodOption = None,
    tolerance: ToleranceOption = None,
    noise_seed: NoiseSeedOption = 0,
    data_files: DataOption = None,
) -> None:
    """Run a model once."""
    from villageflow.datasets.values import values_on_top
    from villageflow.ensemble.simulate import simulate
    from villageflow.report.output import check_output, run_frame, save_run

    if output is not None:
        check_output(output)
    loaded = _model(model, data_files)
    design = _values_of_archetype(loaded, model, archetype) if archetype else {}
    design = values_on_top(loaded, design, _values_of_file(loaded, params) if params else {})
    design = values_on_top(loaded, design, _assigned(set_ or []))
    ds = simulate(
        loaded, dict(design) or None, save=_names(save), time_step=time_step, final_time=final_time,
        save_every=save_every, method=method, tolerance=tolerance, seed=noise_seed,
    )
    if output is None:
        run_frame(loaded, ds).to_csv(sys.stdout, index=False, lineterminator="\n")
    else:
        save_run(loaded, ds, output)


def _values_of_archetype(loaded: Model, model: str, archetype: str) -> dict[str, float]:
    from villageflow.datasets.schemas import read_table
    from villageflow.datasets.values import archetype_values, check_values

    table = read_table(_beside(model, "archetypes.csv", "leave out --archetype"), "archetypes")
    check_values(table, loaded)
    return archetype_values(table, archetype, loaded)


def _values_of_file(loaded: Model, path: Path) -> dict[str, float]:
    from villageflow.datasets.schemas import read_table
    from villageflow.datasets.values import check_values, row_values

    table = read_table(path, "values")
    check_values(table, loaded)
    return row_values(table)


def _assigned(assignments: list[str]) -> dict[str, float]:
    values: dict[str, float] = {}
    for assignment in assignments:
        written, _, number = assignment.partition("=")
        name = variable_id(written)
        try:
            value = float(number) if written.strip() else None
        except ValueError:
            value = None
        if value is None:
            raise DesignError(f"--set {assignment!r} is not NAME=VALUE with a number; write --set imitation=0.8")
        if name in values:
            raise DesignError(f"--set gives {name!r} twice; keep one")
        values[name] = value
    return values


@app.command()
def ensemble(
    model: ModelArgument,
    output: OutputOption,
    members: Annotated[int, typer.Option(help="Number of members drawn from the priors.")] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of the draw of members.")] = 1,
    priors: PriorsOption = None,
    scenarios: ScenariosOption = None,
    save: SaveOption = "",
    time_step: StepOption = None,
    final_time: FinalOption = None,
    save_every: EveryOption = None,
    method: MethodOption = None,
    tolerance: ToleranceOption = None,
    noise_seed: NoiseSeedOption = 0,
    threads: Annotated[int | None, typer.Option(help="Default: all processors. Moves no bit of the result.")] = None,
    flag: Annotated[bool, typer.Option("--flag", help="Keep and mark members that do not stay finite.")] = False,
    quantiles: Annotated[
        str, typer.Option(help="Write these quantiles and the means over the members, not each run.", metavar="P,Q")
    ] = "",
    data_files: DataOption = None,
) -> None:
    """Run a model for many draws from its priors."""
    from villageflow.datasets.schemas import read_table
    from villageflow.ensemble.design import Design
    from villageflow.ensemble.simulate import simulate
    from villageflow.ensemble.summarize import summarize
    from villageflow.report.output import check_output, save_ensemble

    check_output(output)
    loaded = _model(model, data_files)
    priors = priors or _beside(model, "parameters.csv", "give one with --priors")
    design = Design.lhs(read_table(priors, "parameters"), n=members, seed=seed)
    if scenarios is not None:
        design = design.with_scenarios(read_table(scenarios, "scenarios"))
    with _progress_bar(f"{loaded.name}, {members} members") as progress:
        run = partial(summarize, quantiles=_levels(quantiles)) if quantiles else simulate
        ds = run(
            loaded, design, save=_names(save), time_step=time_step, final_time=final_time, save_every=save_every,
            method=method, tolerance=tolerance, seed=noise_seed, n_threads=threads,
            errors="flag" if flag else "raise", progress=progress,
        )
    save_ensemble(ds, output)
    runs = members * max(len(design.scenarios), 1)
    failed = runs - int(ds["finished"].sum()) if quantiles else int((ds["status"] != -1).sum())
    variables = sum(1 for name in ds.data_vars if name in loaded.variables or name in loaded.arrays)
    print(f"{output}: {runs} runs, {failed} not finite, {variables} variables, {ds.sizes['time']} times")


def _levels(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise DesignError(f"--quantiles {text!r} are not numbers; write --quantiles 0.05,0.5,0.95") from None


@app.command()
def step_check(
    model: ModelArgument,
    tolerance: Annotated[float, typer.Option(help="Largest change, relative to each variable's size.")] = 0.01,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="One parameter; may be repeated.", metavar="NAME=VALUE")
    ] = None,
    save: SaveOption = "",
    time_step: StepOption = None,
    final_time: FinalOption = None,
    method: Annotated[str | None, typer.Option(help="euler or rk4, instead of the model's.")] = None,
    halvings: Annotated[int, typer.Option(help="Most times to halve the step.")] = 8,
    data_files: DataOption = None,
) -> None:
    """Halve the time step until the results no longer change; exit code 2 if they always do."""
    from villageflow.analysis.step import step_check as check

    result = check(
        _model(model, data_files), dict(_assigned(set_ or [])) or None, save=_names(save), tolerance=tolerance,
        time_step=time_step, final_time=final_time, method=method, halvings=halvings,
    )
    print(result)
    raise typer.Exit(0 if result.met else 2)


@app.command()
def check(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model file, a shipped model's name, or a folder.")],
    quiet: Annotated[bool, typer.Option("--quiet", help="Leave out hints; show faults only.")] = False,
) -> None:
    """Check models as documents, and the tables beside them; exit code 2 if one has a fault."""
    from villageflow.audit.check import CHECKS, check_all

    faulty = False
    for name, findings in check_all(model):
        shown = [finding for finding in findings if not (quiet and finding.advice)]
        faults = [finding for finding in findings if not finding.advice]
        faulty = faulty or bool(faults)
        print(f"{name}: {len(faults) or 'no'} fault{'' if len(faults) == 1 else 's'} in {len(CHECKS)} checks")
        for finding in shown:
            print(f"  {'hint' if finding.advice else finding.check}: {finding.place}: {finding.message}")
    raise typer.Exit(2 if faulty else 0)


@app.command()
def diagram(
    model: ModelArgument,
    output: Annotated[Path, typer.Option(help="File to write: .svg, .pdf, .png or .dot.")],
    variables: Annotated[str, typer.Option(help="Variables to show; default all.", metavar="A,B")] = "",
    constants: Annotated[bool, typer.Option("--constants", help="Show constants too.")] = False,
) -> None:
    """Draw a model's stocks, flows and links from its equations."""
    from villageflow.report.diagram import diagram as draw

    draw(_model(model), output, variables=_names(variables), constants=constants)


def _beside(model: str, name: str, remedy: str) -> Path:
    found = (Path(model).parent if _is_file(model) else library.path(model)) / name
    if not found.is_file():
        raise DesignError(f"there is no {name} beside {model}; {remedy}")
    return found


@contextmanager
def _progress_bar(label: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error where someone is watching."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as bar:
        work = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(work, completed=done, total=total)


@contextmanager
def _objective_shown(label: str) -> Iterator[Callable[[int, int, float], None]]:
    """Rounds of a search and its best objective on standard error where someone is watching."""
    from rich.console import Console

    console = Console(stderr=True)
    with console.status(label) if console.is_terminal else nullcontext() as status:

        def told(number: int, active: int, best: float) -> None:
            if status is not None:
                status.update(f"{label}: round {number}, {active} searches left, log likelihood {best:.6g}")

        yield told


@app.command()
def estimate(
    study: Annotated[
        str,
        typer.Argument(metavar="[STUDY|FORMULA]", help="A study, 'claims', or 'outcome ~ term + term'; none: list."),
    ] = "",
    data: Annotated[str, typer.Option(help="For a formula: a CSV file, or counties, nation or provinces.")] = "",
    entity: Annotated[str, typer.Option(help="Column of the file that names the entity; default entity.")] = "",
    time: Annotated[str, typer.Option(help="Column of the file with the time, a number; default time.")] = "",
    estimator: Annotated[
        str,
        typer.Option(help="within (default), random, correlated_random, first_difference, between, poisson, iv2sls, "
                          "ivliml, ivgmm."),
    ] = "",
    effects: Annotated[
        str,
        typer.Option(help="Absorbed: entity, time, columns, a*b; 'none' for a constant. Default entity,time where the "
                          "estimator absorbs any.", metavar="A,B"),
    ] = "",
    cov: Annotated[
        str, typer.Option(help="clustered (default), jackknife, driscoll-kraay, robust or unadjusted.")
    ] = "",
    cluster: Annotated[
        str, typer.Option(help="entity (default), time or a column; two separated by a comma.", metavar="A,B")
    ] = "",
    convention: Annotated[str, typer.Option(help="linearmodels (default), stata or fixest.")] = "",
    output: Annotated[
        Path | None, typer.Option(help="A study: folder for its tables. A formula: file, .csv, .md, .tex or .json.")
    ] = None,
) -> None:
    """Estimate a study on the shipped panels, or a formula on a panel of yours, and print the table."""
    from villageflow.datasets import build
    from villageflow.econometrics.studies import STUDIES, run_study, study_names
    from villageflow.report.estimates import claims_text, estimate_formula
    from villageflow.report.tables import to_markdown, write_tables

    options = {
        "estimator": estimator, "effects": effects, "cov": cov, "cluster": cluster, "convention": convention,
    }  # fmt: skip
    if "~" in study:
        keys = (entity or "entity", time or "time")
        options["convention"] = convention or "linearmodels"
        print(estimate_formula(study, data, keys=keys, options=options, output=output))
        return
    given = [name for name, value in (options | {"data": data, "entity": entity, "time": time}).items() if value]
    if given:
        raise EstimationError(f"--{given[0]} is for a formula, and {study or 'the list'!r} is none. Leave it out.")
    if not study:
        print("\n".join([*study_names(), "claims"]))
    elif study == "claims":
        if output is not None:
            raise ReportError("claims are printed; './run reproduce' writes them to results/estimates.json")
        with _progress_bar("claims, about a minute"):
            text = claims_text()
        print(text)
    elif study not in STUDIES:
        raise EstimationError(f"No study is called {study!r}. {did_you_mean(study, [*STUDIES, 'claims'])}")
    elif output is not None and (output.is_file() or output.suffix):
        raise ReportError(f"{output} is no folder; name a folder for the tables")
    else:
        table = run_study(study, build(STUDIES[study].panel))
        print(to_markdown(table) if output is None else "\n".join(map(str, write_tables(table, output))))


@app.command()
def fit(
    problem: Annotated[
        str, typer.Argument(help="A folder with a problem, or a shipped one; without one, those are listed.")
    ] = "",
    seed: Annotated[int, typer.Option(help="Seed of the starts and of the draws behind the bands.")] = 1,
    starts: Annotated[int, typer.Option(help="Starts of the search, at least 20.")] = 20,
    cov_type: Annotated[
        str | None, typer.Option(help="clustered (by entity) or hessian; default clustered where there are several.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="File for the fit: .json for all of it, .csv for its table.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="JSON file for a report: model, data, search, solver, errors, versions.")
    ] = None,
) -> None:
    """Fit a calibration problem by maximum likelihood and print what was found."""
    from villageflow.calibrate.folder import read_problem
    from villageflow.calibrate.problems import PROBLEMS
    from villageflow.report.fits import fit_any, save_any
    from villageflow.report.reporting import calibration_report, save_report

    if not problem:
        print("\n".join(PROBLEMS))
        return
    if problem not in PROBLEMS and not Path(problem).is_dir():
        near = did_you_mean(problem, PROBLEMS)
        raise CalibrationError(f"{problem!r} is neither a folder nor a shipped calibration problem. {near}")
    for file in (output, report):
        if file is not None and (file.is_dir() or not file.parent.is_dir()):
            raise ReportError(f"{file} cannot be written; name a file in a folder that exists")
    declared = PROBLEMS[problem]() if problem in PROBLEMS else read_problem(problem)
    with _objective_shown(f"fitting {declared.model.name}") as progress:
        result = fit_any(declared, seed=seed, starts=starts, cov_type=cov_type, output=output, progress=progress)
    print(result.summary())
    if output is not None:
        save_any(result, output)
    if report is not None:
        save_report(calibration_report(declared, result), report)


@app.command()
def models() -> None:
    """List the models that ship with the package, and where they are."""
    for name in library.names():
        print(f"{name:<24} {library.path(name)}")


@app.command()
def data(
    name: Annotated[str, typer.Argument(help="A panel; without one, the panels are listed.")] = "",
    quality: Annotated[
        bool, typer.Option("--quality", help="Coverage, breaks, conflicts and gaps instead of the figures.")
    ] = False,
) -> None:
    """List the shipped data, or print one panel as CSV or what to know of it."""
    from villageflow import datasets

    if not name:
        print("\n".join(datasets.names()))
    elif quality:
        print(datasets.quality(datasets.load(name)).to_markdown())
    else:
        datasets.load(name).to_csv(sys.stdout, lineterminator="\n")


@app.command()
def info(
    model: Annotated[str, typer.Argument(help="A model file or name; without one, the engine.")] = "",
    data_files: DataOption = None,
) -> None:
    """Describe the engine, or a model."""
    from villageflow.integrate.kernel import engine_info
    from villageflow.report.output import describe

    if model:
        print(describe(_model(model, data_files)))
    else:
        print("\n".join(f"{key:<10} {value}" for key, value in engine_info().items()))


@app.command()
def reproduce(
    clean: Annotated[bool, typer.Option("--clean", help="Remove what was built and start from nothing.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Compare with results/expected.json.")] = False,
    accept: Annotated[bool, typer.Option("--accept", help="Make this run the committed record.")] = False,
) -> None:
    """Rebuild every result, table, figure and the paper of this checkout."""
    from villageflow.report.workflow import reproduce as rebuild

    raise typer.Exit(rebuild(Path.cwd(), clean=clean, check=check, accept=accept))
