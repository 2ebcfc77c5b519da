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
# # A first run
#
# Load a model, run it, run it ten thousand times, draw a fan, estimate a regression on the real panel: five minutes.

# %%
import villageflow as vf

model = vf.library.read("village_cluster")  # or vf.read_model("my_model.mdl"): Vensim, XMILE and Stella files
model

# %% [markdown]
# Every variable knows how it was written, its unit and what it means.

# %%
for name in ("active_stores", "profit[agent]", "imitation"):
    variable = model.variables[name]
    print(f"{variable.name} ({variable.units}), {variable.kind.value}: {variable.documentation}")

# %% [markdown]
# ## One run
#
# The result is an xarray Dataset. Only what is asked for is stored; the model file's time step and method are the
# defaults.

# %%
base = vf.simulate(model, save=["active_stores", "stores[agent]", "stores[brand]"])
base["active_stores"].sel(member=0, time=[2006, 2010, 2014, 2018]).to_series()

# %%
vf.plot.lines({name: base[name].sel(member=0) for name in ("stores[agent]", "stores[brand]")}).figure

# %% [markdown]
# ## What if?
#
# A dictionary sets parameters: one value, or one for each member.

# %%
contests = vf.simulate(model, {"contest_decisiveness": [0.0, 0.4, 0.8]}, save=["profit[agent]"])
contests["profit[agent]"].sel(time=2016).to_series().round(0)

# %% [markdown]
# ## An ensemble
#
# The priors of a shipped model are its `parameters.csv`. A Latin hypercube of ten thousand members runs in seconds,
# on as many threads as there are processors; the result does not depend on how many.

# %%
design = vf.Design.lhs(vf.library.priors("village_cluster"), n=10_000, seed=1)
ensemble = vf.simulate(model, design, save=["active_stores"], errors="flag")
print("members that did not stay finite:", int((ensemble["status"] != -1).sum()))
ensemble["active_stores"].sel(time=2016).quantile([0.05, 0.5, 0.95]).to_series().round(1)

# %%
vf.plot.fan(ensemble["active_stores"], label="prior").figure

# %% [markdown]
# The prior is wide: these draws have not met any fact yet. `notebooks/ad_cost_squeeze.py` goes on from here.
#
# ## A regression on the real panel
#
# Do counties with many Taobao villages gain fewer, relative to what they have? Poisson with province-by-year effects,
# errors clustered by city, on the rosters of 2014 to 2016.

# %%
from villageflow.econometrics.studies import STUDIES, run_study
from villageflow.report.tables import to_markdown

study = run_study("county_crowding", vf.datasets.build(STUDIES["county_crowding"].panel))
print(to_markdown(study))
