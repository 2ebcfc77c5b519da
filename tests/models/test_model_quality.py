"""Static and dynamic quality of the shipped models (checklist of the design notes, parts E and F)."""

from __future__ import annotations

import ast
import re

import numpy as np
import pytest

import villageflow as vf
from villageflow.datasets.values import row_id
from villageflow.ir.nodes import Call, Integral, Num, Ref
from villageflow.names import canonical

LOOPS = {
    "village_cluster": [
        "R1", "R2", "R3", "R4", "R7", "R8", "R9", "R24", "R25", "R26",
        "B1", "B2", "B3", "B4", "B5", "B10", "B11", "B27", "B28",
    ],
    "national_diffusion": ["R33", "R34", "R35", "R36", "R37", "B32", "B33", "B34", "B35"],
}  # fmt: skip
# stocks that may be below 0 by meaning
SIGNED = {
    "perceived_profit[agent]", "perceived_profit[brand]", "mean_log_sales_gap",
    "income_ratio_heard", "income_ratio_believed", "perceived_income_ratio",
}  # fmt: skip
SHARES = {
    "village_cluster": [
        "share_of_households", "brand_share_of_stores", "paid_visibility", "home_share", "generic_share",
        "entry_attraction", "brand_attraction", "cash_adequacy", "household_room", "platform_recruitment",
        "share_begun_as_distributors", "anchor_share_of_agents", "elderly_share_of_residents",
    ],
    "national_diffusion": [
        "top_three_share", "share_attracted", "rural_share_of_new_users", "paid_visibility", "near_share",
        "search_coverage", "local_programmes", "suitability_left", "platform_attention_to_rural",
    ],
}  # fmt: skip
OUTCOMES = {
    "village_cluster": [
        "active_stores", "stores[agent]", "stores[brand]", "profit[agent]", "profit_average", "village_revenue",
        "ad_cost_share[agent]", "workers_away", "return_flow", "resident_workers",
    ],
    "national_diffusion": [
        "taobao_villages", "seed_villages", "urban_users", "rural_users", "top_three_share", "sellers",
    ],
}  # fmt: skip
EXTREMES = {
    "village_cluster": [
        {"initial_demand": 1.0}, {"demand_ceiling": 1e14}, {"demand_shock_size": 1.0}, {"outside_ceiling": 1e9},
        {"unpaid_reach": 1.0}, {"unpaid_reach": 1e12}, {"contest_decisiveness": 0.0}, {"contest_decisiveness": 3.0},
        {"gross_margin[agent]": 0.0}, {"brand_outlay": 0.0}, {"brand_outlay": 1e12}, {"participation_ceiling": 1e-6},
        {"households": 1.0}, {"imitation": 0.0}, {"imitation": 20.0}, {"spontaneous_openings": 0.0},
        {"spontaneous_openings": 1e4}, {"urban_wage_growth": 0.3}, {"urban_wage_growth": -0.3},
        {"initial_workers_away": 1e-6}, {"initial_workers_farm": 1.0}, {"return_propensity": 10.0},
        {"leaving_propensity": 10.0}, {"agent_fixed_cost": 1e7}, {"store_fee": 1e6}, {"graduation_hazard": 5.0},
        {"stress_closure_hazard": 20.0}, {"manufacturer_pool": 1e6},
    ],
    "national_diffusion": [
        {"reference_village_sales": 1e-30}, {"reference_village_sales": 1e30}, {"sales_dispersion": 0.05},
        {"sales_dispersion": 100.0}, {"contagion_hazard": 50.0}, {"spontaneous_seeding": 0.0},
        {"villages_reached_per_listing": 5e3}, {"retrospective_detection": 0.0}, {"retrospective_detection": 1.0},
        {"delisting_hazard": 20.0}, {"delisting_hazard": 0.0}, {"initial_urban_users": 0.0, "initial_rural_users": 1.0},
        {"network_advantage": 20.0}, {"challenger_entry": 5.0}, {"sales_threshold": 1e-3}, {"sales_threshold": 1e30},
        {"spending_ceiling": 0.0, "initial_spending_per_user": 1.0}, {"connection_hazard": 0.0},
    ],
}  # fmt: skip


def own_stocks(model):
    """Stocks that the file writes, without those that delays are made of."""
    return [name for name in model.stocks if not name.startswith("#")]


def blocks(text):
    """(name, equation, unit, documentation) of every variable of a .mdl file."""
    body = re.sub(r"(?s)\*{10,}.*?\|", "", text.removeprefix("{UTF-8}"))
    for block in body.split("|"):
        if block.strip():
            equation, unit, documentation = (part.strip() for part in block.split("~"))
            name, equals, right = equation.partition("=")
            if equals:  # the other blocks name the elements of a dimension
                yield name.strip(), " ".join(right.split()), unit, documentation


def plain(name):
    """Name of a variable without its subscripts."""
    return name.partition("[")[0]


@pytest.fixture
def variables(model_file):
    return list(blocks(model_file.read_text(encoding="utf-8")))


def test_every_variable_has_unit_and_documentation(variables, base):
    assert {canonical(plain(name)) for name, *_ in variables} == {plain(name) for name in base.model.variables}
    for name, _, unit, documentation in variables:
        assert unit, name
        assert len(documentation) > 15, name
    for variable in base.model.variables.values():
        assert variable.units, variable.name
        assert variable.documentation, variable.name


class Dimension(dict):
    """Exponents of the base units of a quantity; no entry means dimensionless."""

    def __init__(self, exponents=()):
        super().__init__({unit: power for unit, power in dict(exponents).items() if power})

    def __mul__(self, other):
        return Dimension({unit: self.get(unit, 0) + other.get(unit, 0) for unit in {*self, *other}})

    def __pow__(self, power):
        return Dimension({unit: exponent * power for unit, exponent in self.items()})

    def __truediv__(self, other):
        return self * other**-1


NONE = Dimension()
YEAR = Dimension({"Year": 1})


def written(unit):
    """Dimension of a unit as written, such as ``RMB/(Year*store)``."""

    def of(node):
        match node:
            case ast.Name(id="dmnl") | ast.Constant(value=1):
                return NONE
            case ast.Name(id=name):
                return Dimension({name: 1})
            case ast.BinOp(left=left, op=ast.Mult(), right=right):
                return of(left) * of(right)
            case ast.BinOp(left=left, op=ast.Div(), right=right):
                return of(left) / of(right)
        raise ValueError(unit)

    return of(ast.parse(unit, mode="eval").body)


class Dimensions:
    """Dimensions of the expressions of a model; an inconsistent one fails with its place."""

    def __init__(self, model):
        self.units = {name: written(variable.units) for name, variable in model.variables.items()}

    def same(self, *arguments):
        """The common dimension; a literal 0 fits anything."""
        known = [self.of(a) for a in arguments if not (isinstance(a, Num) and a.value == 0)]
        assert all(d == known[0] for d in known), (known, arguments)
        return known[0] if known else NONE

    def plain(self, *arguments):
        assert all(self.of(a) == NONE for a in arguments), arguments
        return NONE

    def of(self, node):
        match node:
            case Num():
                return NONE
            case Ref(name="time" | "initial_time" | "final_time"):
                return YEAR
            case Ref(name=name):
                return self.units[name]
            case Call(function="multiply", arguments=(a, b)):
                return self.of(a) * self.of(b)
            case Call(function="divide", arguments=(a, b)):
                return self.of(a) / self.of(b)
            case Call(function="power", arguments=(a, Num(value=power))):
                return self.of(a) ** power
            case Call(function="sqrt", arguments=(a,)):
                return self.of(a) ** 0.5
            case Call(function="exp" | "ln" | "power", arguments=arguments):
                return self.plain(*arguments)
            case Call(function="add" | "subtract" | "min" | "max" | "negative" | "abs", arguments=arguments):
                return self.same(*arguments)
            case Call(function="less" | "greater_equal", arguments=arguments):
                self.same(*arguments)
                return NONE
            case Call(function="if_then_else", arguments=(condition, yes, no)):
                self.of(condition)
                return self.same(yes, no)
            case Call(function="step", arguments=(height, time)):
                assert self.of(time) == YEAR, time
                return self.of(height)
            case Call(function="ramp", arguments=(slope, start, end)):
                assert self.of(start) == self.of(end) == YEAR, node
                return self.of(slope) * YEAR
            case Call(function="zidz", arguments=(a, b)):
                return self.of(a) / self.of(b)
            case Call(function="xidz", arguments=(a, b, otherwise)):
                assert self.of(a) / self.of(b) == self.of(otherwise), node
                return self.of(otherwise)
        raise AssertionError(f"no rule for the unit of {node}")


def inconsistent(model):
    """Names of the variables whose equation has another dimension than their unit."""
    dimensions, wrong = Dimensions(model), []
    for name, node in {**model.auxiliaries, **model.stocks}.items():
        try:
            if isinstance(node, Integral):
                fits = dimensions.same(node.net_flow, Num(0.0)) == dimensions.units[name] / YEAR
                fits &= isinstance(node.initial, Num) or dimensions.of(node.initial) == dimensions.units[name]
            else:
                fits = dimensions.of(node) == dimensions.units[name]
        except AssertionError:
            fits = False
        if not fits:
            wrong.append(name)
    return wrong


def test_units_are_consistent(base):
    assert inconsistent(base.model) == []


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("births-growing up,", "births-elderly,"),
        ("LN(pull ratio)", "LN(workers seen)"),
        ("children/childhood\n", "children\n"),
        ("MIN(village revenue/listing revenue", "MIN(village revenue"),
    ],
)
def test_unit_check_sees_a_fault(right, wrong, tmp_path):
    text = (vf.library.path("village_cluster") / "village_cluster.mdl").read_text(encoding="utf-8")
    assert text.count(right) == 1
    faulty = tmp_path / "faulty.mdl"
    faulty.write_text(text.replace(right, wrong), encoding="utf-8")
    assert len(inconsistent(vf.read_model(faulty))) == 1


def test_no_embedded_numbers(variables):
    names = sorted((plain(name) for name, *_ in variables), key=len, reverse=True)
    for name, equation, _, _ in variables:
        if re.fullmatch(r"[-+0-9.eE, ]+", equation):
            continue
        for other in names:
            equation = equation.replace(other, " ")
        literals = set(re.findall(r"(?<![A-Za-z])\d+\.?\d*(?:[eE][-+]?\d+)?", equation))
        assert literals <= {"0", "1", "2"}, (name, literals)


def test_file_form(model_file):
    text = model_file.read_text(encoding="utf-8")
    assert text.startswith("{UTF-8}\n")
    assert max(map(len, text.splitlines())) < 200
    assert re.findall(r"(?m)^\t\.(\w+)$", text)[-1] == "Control"


def test_everything_is_used(variables, base):
    """A variable that nothing reads is an output that the README or a test names."""
    text = " ; ".join(equation for _, equation, _, _ in variables)
    readme = (vf.library.path(base.name) / "README.md").read_text(encoding="utf-8")
    for name, *_ in variables:
        if name.isupper() or plain(name) in text:
            continue
        assert f"`{canonical(plain(name))}" in readme, name


def test_step_is_short_and_exact(base):
    step = vf.simulate(base.model, save=own_stocks(base.model)[0]).attrs["time_step"]
    assert np.log2(step).is_integer()
    priors = vf.library.priors(base.name)
    times = priors[(priors["unit"] == "Year") & priors["name"].str.contains("time|delay|life")]
    assert len(times)
    assert (times["lower"] / 4 > step).all()


def test_parameters_fit_the_model(base):
    priors, constants = vf.library.priors(base.name), base.model.constants
    ids = [row_id(row) for row in priors.to_dict("records")]
    assert len(set(ids)) == len(ids)
    for name, row in zip(ids, priors.itertuples(), strict=True):
        assert row.mode == constants[name], name
        assert row.lower <= row.mode <= row.upper, name
        assert row.unit == base.model.variables[name].units, name
        assert row.distribution in {"uniform", "loguniform", "triangular", "lognormal"}, row.name
        assert (row.scale == "lin") == (row.distribution in {"uniform", "triangular"}), row.name
        assert row.source, row.name


def test_scenarios_fit_the_model(base):
    table = vf.library.scenarios(base.name)
    expected = {"baseline"} | (
        {"no_ad_contest", "free_traffic_quota", "county_support", "shared_brand"}
        if base.name == "village_cluster"
        else set()
    )
    assert expected <= set(table["scenario"])
    reference = base()
    for scenario, rows in table.groupby("scenario"):
        changed = base(**dict(zip(rows["name"], rows["value"].astype(float), strict=True)))
        moved = any(not np.array_equal(changed[name], reference[name]) for name in OUTCOMES[base.name])
        assert moved == (scenario != "baseline"), scenario


def test_policies_wait_for_their_start(village_base):
    table = vf.library.scenarios("village_cluster")
    reference = village_base()
    for _, rows in table.groupby("scenario"):
        changed = village_base(**dict(zip(rows["name"], rows["value"].astype(float), strict=True)))
        for name in OUTCOMES["village_cluster"]:
            np.testing.assert_array_equal(changed.span(name, 2006, 2016), reference.span(name, 2006, 2016))


def test_every_loop_has_a_switch_that_matters(base):
    switches = {name for name in base.model.constants if name.startswith("switch_")}
    assert switches == {f"switch_{loop.lower()}" for loop in LOOPS[base.name]}
    on = base()
    for switch in sorted(switches):
        assert base.model.constants[switch] == 1
        off = base(**{switch: 0.0})
        effect = max(np.abs(off[n] - on[n]).max() / np.abs(on[n]).max() for n in own_stocks(base.model))
        assert effect > 1e-3, switch


# loop, variable and time at which the loop must show, direction of the variable when the loop is on
SIGNS = {
    "village_cluster": [
        ("r1", "active_stores", 2012, 1), ("r2", "active_stores", 2014, 1), ("r3", "revenue[brand]", 2016, 1),
        ("r4", "anchor_goodwill", 2014, 1), ("r7", "ad_bid[agent]", 2012, 1), ("r8", "category_demand", 2016, 1),
        ("r9", "ad_cost_share[agent]", 2010, 1), ("r24", "leave_flow", 2009, 1), ("r25", "active_stores", 2012, 1),
        ("r26", "leave_flow", 2008, 1), ("b1", "active_stores", 2014, -1), ("b2", "new_stores", 2020, -1),
        ("b3", "appeal[agent]", 2014, -1), ("b4", "stores[agent]", 2012, -1), ("b5", "stores[brand]", 2014, -1),
        ("b10", "ad_cost_share[agent]", 2018, -1), ("b11", "active_stores", 2018, -1),
        ("b27", "income_ratio", 2014, -1), ("b28", "home_share", 2009, 1),
    ],
    "national_diffusion": [
        ("r33", "seed_villages", 2020, 1), ("r34", "seed_villages", 2020, 1), ("r35", "platform_users", 2012, 1),
        ("r36", "top_three_share", 2019, 1), ("r37", "rural_users", 2018, 1), ("b32", "seed_villages", 2018, -1),
        ("b33", "village_sales", 2018, -1), ("b34", "taobao_villages", 2020, -1), ("b35", "urban_users", 2016, -1),
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "loop", "variable", "time", "sign"),
    [(name, *row) for name, rows in SIGNS.items() for row in rows],
)
def test_loop_acts_in_its_direction(name, loop, variable, time, sign, request):
    """Reinforcing loops raise and balancing loops hold back what they act on, where the study says so."""
    runs = request.getfixturevalue({"village_cluster": "village_base", "national_diffusion": "nation_base"}[name])
    on, off = runs().at(variable, time), runs(**{f"switch_{loop}": 0.0}).at(variable, time)
    assert sign * (on - off) > 0


def test_stocks_stay_non_negative_and_shares_between_0_and_1(prior):
    runs = prior()
    for name in set(own_stocks(prior.model)) - SIGNED:
        assert (runs[name] >= 0).all(), name
    for name in SHARES[prior.name]:
        assert (runs[name] >= 0).all(), name
        assert (runs[name] <= 1 + 1e-12).all(), name


@pytest.mark.parametrize(
    ("name", "changes"),
    [(n, c) for n, cs in EXTREMES.items() for c in cs],
    ids=lambda v: v if isinstance(v, str) else str(v),
)
def test_extreme_conditions(name, changes, request):
    runs = request.getfixturevalue({"village_cluster": "village_base", "national_diffusion": "nation_base"}[name])
    result = runs(**changes)
    for stock in set(own_stocks(runs.model)) - SIGNED:
        assert np.isfinite(result[stock]).all(), stock
        assert (result[stock] >= 0).all(), stock
    for share in SHARES[name]:
        assert (result[share] >= 0).all(), share
        assert (result[share] <= 1 + 1e-12).all(), share


def test_extreme_behaviour(village_base, nation_base):
    """What must follow from an extreme input follows."""
    assert village_base(initial_demand=1.0)["active_stores"][:, -1].max() < 1
    assert village_base(imitation=0.0, spontaneous_openings=0.0, founders_per_returnee=0.0)["active_stores"].max() <= 1
    assert village_base(households=1.0)["ecommerce_households"].max() <= 1
    assert village_base(unpaid_reach=1e12)["ad_cost_share[agent]"][:, -1].max() < 1e-3
    assert village_base(brand_outlay=1e12)["stores[brand]"].max() < 1e-3
    assert nation_base(sales_threshold=1e30)["taobao_villages"].max() < 1e-6
    assert nation_base(spontaneous_seeding=0.0)["taobao_villages"].max() <= nation_base()["taobao_villages"].max() / 5
    assert nation_base(network_advantage=0.0)["top_three_share"][:, -1] < 0.6


@pytest.mark.parametrize("against", ["half the step", "rk4"])
def test_integration_error(against, base):
    model, names = base.model, OUTCOMES[base.name]
    step = vf.simulate(model, save=names).attrs["time_step"]
    options = {"time_step": step / 2} if against == "half the step" else {"method": "rk4"}
    coarse, fine = vf.simulate(model, save=names), vf.simulate(model, save=names, **options)
    for name in names:
        error = np.abs(coarse[name].values - fine[name].values).max() / np.abs(fine[name].values).max()
        assert error < 0.01, (name, error)
