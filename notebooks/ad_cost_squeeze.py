# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # The ad-cost squeeze
#
# Stores of one village sell the same goods and compete to be seen. What each spends on visibility wins it customers
# from its neighbours, not new customers for the village: profit for each store falls while the village as a whole
# still grows. The average over all stores hides it, because the mix shifts to brand owners.

# %%
import numpy as np

import villageflow as vf

model = vf.library.read("village_cluster")
NAMES = ["profit[agent]", "profit[brand]", "profit_average", "village_revenue", "ad_cost_share[agent]", "active_stores"]
base = vf.simulate(model, save=NAMES).sel(member=0)

# %% [markdown]
# ## Profit held by store type

# %%
peak = {name: float(base["time"][int(base[name].argmax())]) for name in ("profit[agent]", "village_revenue")}
print(f"profit of an agent peaks in {peak['profit[agent]']:.1f}, village revenue in {peak['village_revenue']:.1f}")

# %%
figure, (left, right) = vf.plot.new_figure(columns=2)
shown = {"agent": "profit[agent]", "brand owner": "profit[brand]", "average": "profit_average"}
vf.plot.lines({label: base[name] for label, name in shown.items()}, ax=left, scale=1000, unit="1,000 RMB/store/year")
left.set_ylabel("profit (1,000 RMB/store/year)")
right.plot(base["village_revenue"] / 1e6, base["profit[agent]"] / 1000, color=vf.plot.COLOURS[0])
right.set_xlabel("village revenue (million RMB/year)")
right.set_ylabel("profit of an agent store (1,000 RMB/year)")
figure

# %% [markdown]
# Read the right panel from its lower left: the village grows along the curve, and its agents are better off only for
# the first stretch.
#
# ## Is it the contest?
#
# With contest decisiveness at zero, money buys no place in the search results. Everything else is the same.

# %%
switched = vf.simulate(model, {"contest_decisiveness": [0.0, model.constants["contest_decisiveness"]]}, save=NAMES)
at_end = switched.sel(time=2016)
for member, label in enumerate(("no contest", "as it is")):
    values = at_end.sel(member=member)
    print(
        f"{label:<11} agent profit {float(values['profit[agent]']):>9,.0f} RMB, "
        f"ad cost {float(values['ad_cost_share[agent]']):.0%} of revenue, stores {float(values['active_stores']):.0f}"
    )

# %% [markdown]
# ## Does it hold when the parameters are unsure?
#
# Two thousand draws from the priors, each run with and without the policy that ends the contest: the same draws in
# both, so the difference is the policy's.

# %%
scenarios = vf.library.scenarios("village_cluster")
design = vf.Design.lhs(vf.library.priors("village_cluster"), n=2_000, seed=7)
chosen = scenarios[scenarios["scenario"].isin(["baseline", "no_ad_contest"])]
runs = vf.simulate(model, design.with_scenarios(chosen), save=["profit[agent]", "village_revenue"], errors="flag")
gain = (runs.sel(scenario="no_ad_contest") - runs.sel(scenario="baseline"))["profit[agent]"].sel(time=2020)
print(f"share of draws in which agents gain from ending the contest: {float((gain > 0).mean()):.3f}")

# %%
ax = vf.plot.fan(runs["profit[agent]"].sel(scenario="baseline", drop=True), label="baseline", scale=1000,
                 unit="1,000 RMB/store/year")
vf.plot.fan(runs["profit[agent]"].sel(scenario="no_ad_contest", drop=True), label="no ad contest", scale=1000,
            colour=vf.plot.COLOURS[1], ax=ax)
ax.legend()
ax.figure

# %% [markdown]
# ## What the data can say
#
# The platform's income from merchants is public; the sales behind it are only known within bounds. The ratio is
# therefore a bound too.

# %%
income = vf.datasets.load("nation", columns=["alibaba_merchant_fees", "alibaba_customer_management_revenue"])
fees = income["alibaba_merchant_fees"].fillna(income["alibaba_customer_management_revenue"])
fees = fees.droplevel("entity").dropna()
sales = vf.datasets.load("nation_bounds").xs("alibaba_china_retail_gmv", level="variable").droplevel("entity")
for year, row in sales.iterrows():
    share = fees[year] / row["value"]
    sign = "at most" if row["comparator"] == ">=" else "about"
    print(f"fiscal year {year}: merchants paid {fees[year] / 1e3:,.0f} bn yuan, {sign} {share:.1%} of their sales")

# %%
growth = np.log(fees.iloc[-1] / fees.iloc[0]) / (fees.index[-1] - fees.index[0])
print(f"what merchants paid grew by {growth:.2f} a year in logarithms, {fees.index[0]} to {fees.index[-1]}")
