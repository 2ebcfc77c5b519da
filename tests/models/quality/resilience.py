"""What the tests of quality ask of resilience: outcomes, extremes, balances, consequences of extreme inputs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from modes import resilience as modes
from runs import Floats, Runs, Series

Balance = tuple[Floats, Floats, Floats]

OUTCOMES = (
    "performance", "performance_loss", "expectations", "shock_exposure", "monitoring", "buffer", "adjusted_ways",
    "adaptation_experience", "transformation_level", "digital_capability", "share_of_live_shoppers",
    "online_farm_sales",
)
SIGNED = ()
EXTREMES = [
    {"shock_size": 0.0}, {"shock_size": 1.0}, {"shock_length": 0.0}, {"shock_length": 5e5}, {"shock_start": 2016.0},
    {"shock_size": 1.0, "shock_length": 20.0, "normal_capability": 0.0, "normal_buffer": 0.0},
    {"shock_size": 0.5, "second_shock_size": 0.5, "second_shock_start": 2020.0625},
    {"normal_capability": 0.0}, {"normal_capability": 0.95}, {"normal_buffer": 0.0}, {"normal_buffer": 1e5},
    {"highest_exposure_cut": 0.0}, {"highest_exposure_cut": 0.95}, {"onset_time": 1e5}, {"unaided_recovery_rate": 0.0},
    {"unaided_recovery_rate": 50.0}, {"adapted_recovery_rate": 0.0}, {"adapted_recovery_rate": 100.0},
    {"response_time": 5e4}, {"expectation_time": 3e6}, {"expectation_drift": 0.05}, {"gap_half_point": 1e-6},
    {"gap_half_point": 5e4}, {"exposure_time": 2e6}, {"monitoring_time": 5e5}, {"longest_lead_time": 0.0},
    {"longest_lead_time": 8e4}, {"preparation_time": 2.5e5}, {"buffer_effort": 0.0}, {"buffer_effort": 10.0},
    {"buffer_reserve": 1e4}, {"refill_time": 0.05}, {"refill_time": 1e6}, {"experience_share": 0.0},
    {"experience_share": 1.0}, {"adaptation_time": 2e5}, {"learning_from_adapting": 0.0},
    {"learning_from_adapting": 50.0}, {"experience_life": 5e6}, {"transformation_gain": 0.0},
    {"transformation_gain": 10.0}, {"capability_decay": 0.0}, {"capability_decay": 5.0}, {"embedding": 0.0},
    {"embedding": 50.0}, {"project_learning": 30.0}, {"live_innovation": 0.0}, {"live_innovation": 50.0},
    {"live_imitation": 50.0}, {"stream_pull": 100.0}, {"normal_streaming_sellers": 1.0}, {"variety_exponent": 0.0},
    {"variety_exponent": 20.0}, {"stream_exposure": 1.0}, {"farm_spending_of_live_shopper": 1.5e8},
    {"initial_listed_sales": 0.0}, {"listed_sales_growth": -5.0}, {"listed_sales_growth": 3.0},
    {"policy_training": 1.0, "training_effect": 50.0}, {"policy_slack_finance": 1.0, "financed_buffer": 1e5},
    {"policy_data_services": 1.0, "data_service_effect": 1.0}, {"policy_channel_mix": 1.0, "channel_mix_effect": 1.0},
]  # fmt: skip


def goods(run: Series, step: float) -> Balance:
    """What is produced, and what comes from outside where loop B42 is off, is delivered or added to buffers."""
    made = run.integral("production", step) + run.integral("outside_help", step)
    return made, run.integral("supply", step) + run.change("buffer"), made


def loss(run: Series, step: float) -> Balance:
    """The loss of production is what shocks took less what was made good."""
    taken = run.integral("losses", step)
    return run.change("performance_loss"), taken - run.integral("recovery", step), taken + 1


def capability(run: Series, step: float) -> Balance:
    """Capability changes by what is gained and by the share that decays."""
    gained, held = run.integral("capability_gain", step), run.integral("digital_capability", step)
    return run.change("digital_capability"), gained - run["capability_decay"][:, None] * held, gained + 1


def sales(run: Series, step: float) -> Balance:
    """Listed and streamed sales are all online sales of farm goods."""
    parts = run["listed_farm_sales"] + run["streamed_farm_sales"]
    return parts, run["online_farm_sales"], parts


CONSERVED = (goods, loss, capability, sales)


def _off(run: Runs, mode: Callable[[Runs], object], **changes: float) -> bool:
    """Whether a mode is not shown where its mechanism is off."""
    table = run.table.copy()
    for name, value in changes.items():
        table[name] = value
    return not np.any(mode(Runs(run.name, table, modes.SAVED)))


def _at_rest(run: Runs) -> bool:
    """Whether nothing moves without a shock."""
    calm = run(shock_size=0.0)
    still = ("performance", "expectations", "shock_exposure", "monitoring", "buffer", "digital_capability")
    return all(np.ptp(calm[name]) < 1e-9 for name in still)


EXPECTED: dict[str, Callable[[Runs], bool]] = {
    "without a shock nothing moves": _at_rest,
    "what is not exposed is not lost": lambda run: bool(
        run(normal_capability=0.95, highest_exposure_cut=0.95)["performance_loss"].max()
        < 0.2 * run(highest_exposure_cut=0.0)["performance_loss"].max()
    ),
    "a full warning saves everything": lambda run: bool(
        run(longest_lead_time=1e9, normal_capability=0.9)["performance_loss"].max() < 1e-6
    ),
    "a lasting shock without any means leaves what it does not reach": lambda run: bool(
        abs(
            run(shock_length=20.0, unaided_recovery_rate=0.0, adapted_recovery_rate=0.0, normal_capability=0.0)[
                "performance_loss"
            ][:, -1].max() - 0.4
        ) < 0.01
    ),
    "an endless buffer hides the shock": lambda run: bool(
        run(normal_buffer=1e5, buffer_effort=10.0)["performance"].min() > 0.96
    ),
    "capability that changes nothing shows nothing": lambda run: _off(
        run, modes.k04_1, highest_exposure_cut=0.0, longest_lead_time=0.0, adapted_recovery_rate=0.5,
        transformation_gain=0.0,
    ),
    "without adaptation the second shock takes as much": lambda run: _off(run, modes.k04_2, switch_b41=0.0),
    "buffers that give nothing soften nothing": lambda run: _off(run, modes.k04_3, buffer_effort=0.0),
    "without the live channel nothing is taken in": lambda run: _off(run, modes.k04_4, live_channel_open=0.0),
}
