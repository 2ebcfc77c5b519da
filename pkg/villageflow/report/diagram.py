"""Stock-flow diagrams of a model, drawn from its equations."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from villageflow.ensemble.design import check_model
from villageflow.errors import ReportError, did_you_mean
from villageflow.ir.model import Model
from villageflow.ir.nodes import Call, Expr, Ref
from villageflow.ir.walk import nodes
from villageflow.names import variable_id

if TYPE_CHECKING:
    from pygraphviz import AGraph

FORMATS: Final = (".svg", ".pdf", ".png", ".dot")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\ufffe\uffff]")
_LONGEST: Final = 32
_STOCK: Final = {"shape": "box", "style": "filled", "fillcolor": "#DCE9F5", "penwidth": "1.4"}
_FLOW: Final = {"shape": "hexagon", "style": "filled", "fillcolor": "#F5E6DC", "margin": "0.02"}
_AUXILIARY: Final = {"shape": "plaintext", "margin": "0.02"}
_CONSTANT: Final = {"shape": "plaintext", "fontcolor": "#707070", "margin": "0.02"}
_CLOUD: Final = {"shape": "doublecircle", "label": "", "width": "0.12", "fixedsize": "true", "color": "#909090"}
_PIPE: Final = {"penwidth": "2.4", "arrowsize": "0.7", "color": "#404040"}
_LINK: Final = {"penwidth": "0.7", "arrowsize": "0.5", "color": "#7A8A99"}


def diagram(
    model: Model, path: str | Path, *, variables: Sequence[str] | str | None = None, constants: bool = False
) -> None:
    """Draw the stocks, flows and causal links of a model.

    Parameters
    ----------
    model : Model
        As `read_model` gives it. Elements of an array are variables of their own.
    path : str or Path
        File to write: ``.svg``, ``.pdf``, ``.png`` or ``.dot``.
    variables : sequence of str, optional
        Variables to show, in any spelling, with the links among them; an array stands for its elements. Default all
        stocks and auxiliaries.
    constants : bool
        Whether constants that a shown equation reads are shown too.

    Raises
    ------
    ReportError
        An unknown variable or kind of file, a place that cannot be written, no variable to show, a name with control
        characters, or no pygraphviz (``pip install villageflow[diagrams]``).

    Notes
    -----
    A box is a stock, a hexagon a flow, a thick arrow what flows, a thin arrow a link from cause to effect. A flow is a
    variable that a stock's equation adds or subtracts as it is; other terms of the equation are links. Does not place
    by hand: the layout is Graphviz's.
    """
    check_model(model)
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise ReportError(f"{path} is no kind of drawing; give a name that ends in {', '.join(FORMATS)}")
    if path.is_dir() or not path.parent.is_dir():
        raise ReportError(f"{path} cannot be written; name a file in a folder that exists")
    shown = _shown(model, variables)
    if not shown:
        raise ReportError(f"there is no variable of model {model.name!r} to draw; name at least one")
    graph = _graph(model, shown, constants)
    if path.suffix.lower() == ".dot":
        path.write_text(graph.to_string(), encoding="utf-8")
    else:
        graph.draw(str(path), format=path.suffix[1:].lower(), prog="dot")


def _shown(model: Model, variables: Sequence[str] | str | None) -> set[str]:
    everything = {name for name in model.variables if name in model.stocks or name in model.auxiliaries}
    if variables is None:
        return everything
    shown: set[str] = set()
    for written in [variables] if isinstance(variables, str) else variables:
        name = variable_id(written)
        found = {element for element in model.arrays[name].ids if element} if name in model.arrays else {name}
        if unknown := found - everything - model.constants.keys():
            known = [*everything, *model.constants]
            raise ReportError(f"model {model.name!r} has no variable {min(unknown)!r}. {did_you_mean(name, known)}")
        shown |= found
    return shown


def _graph(model: Model, shown: set[str], constants: bool) -> AGraph:
    try:
        from pygraphviz import AGraph
    except ImportError:
        raise ReportError("diagrams need pygraphviz; install it with pip install 'villageflow[diagrams]'") from None
    graph = AGraph(directed=True, name="model")
    graph.graph_attr.update(rankdir="LR", nodesep="0.15", ranksep="0.4", fontname="Helvetica")
    graph.node_attr.update(fontname="Helvetica", fontsize="9", height="0.2", color="#404040")
    flows = {name: _flows(model.stocks[name].net_flow) for name in sorted(shown & model.stocks.keys())}
    valves = {flow for pair in flows.values() for side in pair for flow in side}
    for name in sorted(shown):
        kind = _STOCK if name in model.stocks else _FLOW if name in valves else _AUXILIARY
        _node(graph, model, name, _CONSTANT if name in model.constants else kind)
    into: set[str] = set()
    out_of: set[str] = set()
    for stock, (inflows, outflows) in flows.items():
        for flow in inflows & shown:
            graph.add_edge(flow, stock, **_PIPE)
            into.add(flow)
        for flow in outflows & shown:
            graph.add_edge(stock, flow, dir="forward", **_PIPE)
            out_of.add(flow)
    for flow in sorted((into | out_of) - (into & out_of)):
        cloud = f"cloud of {flow}"
        graph.add_node(cloud, **_CLOUD)
        graph.add_edge(*((cloud, flow) if flow in into else (flow, cloud)), **_PIPE)
    for name in sorted(shown - model.constants.keys()):
        expr = model.stocks[name].net_flow if name in model.stocks else model.auxiliaries[name]
        piped = set().union(*flows.get(name, (set(), set())))
        for source in _read(expr, piped):
            if constants and source in model.constants and source not in shown:
                _node(graph, model, source, _CONSTANT)
            elif source not in shown:
                continue
            if source != name and not graph.has_edge(source, name):
                graph.add_edge(source, name, **_LINK)
    return graph


def _node(graph: Any, model: Model, name: str, look: dict[str, str]) -> None:
    label = model.variables[name].name if name in model.variables else name
    if found := _CONTROL.search(label):
        raise ReportError(f"the name {label!r} has the character {found[0]!r}, which no drawing can hold; rename it")
    graph.add_node(name, label=_wrapped(label.replace('\\"', '"')), **look)


def _wrapped(text: str) -> str:
    """Words over several lines; backslash, ampersand or a leading bracket would mean something else to Graphviz."""
    lines, line = [], ""
    for word in text.replace("\\", "/").replace("_", " ").split():
        parts = [word[i:i + _LONGEST] for i in range(0, len(word), _LONGEST)]
        for part in parts:
            if line and len(line) + len(part) > 16:
                lines.append(line)
                line = part
            else:
                line = f"{line} {part}".strip()
    label = "\\n".join([*lines, line]).replace("&", "&amp;")
    return f" {label}" if label.startswith("<") else label


def _flows(net_flow: Expr) -> tuple[set[str], set[str]]:
    """Variables that a net flow adds, and those that it subtracts, each as it is."""
    added: set[str] = set()
    taken: set[str] = set()
    todo = [(net_flow, True)]
    while todo:
        node, plus = todo.pop()
        match node:
            case Call(function="add", arguments=(a, b)):
                todo += [(a, plus), (b, plus)]
            case Call(function="subtract", arguments=(a, b)):
                todo += [(a, plus), (b, not plus)]
            case Call(function="negative", arguments=(a,)):
                todo.append((a, not plus))
            case Ref(name=name):
                (added if plus else taken).add(name)
    return added, taken


def _read(expr: Expr, leave_out: Iterable[str]) -> list[str]:
    names = dict.fromkeys(node.name for node in nodes(expr) if isinstance(node, Ref))
    return [name for name in names if name not in leave_out]
