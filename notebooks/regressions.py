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
# # Regressions on the real panels
#
# What is known, what was joined, what a regression says, and how far it can be trusted. Another panel works the same
# way: `vf.read_panel("mine.csv", entity="village", time="year", units={...})`.

# %%
import villageflow as vf
from villageflow.econometrics.hypotheses import CLAIMS, FIRST_LISTING, claim_panels

panels = claim_panels()
provinces = panels["provinces"]
vf.datasets.merges_table(provinces)

# %% [markdown]
# ## What is known
#
# Dark cells are years in which all provinces have a value. `quality(...)` also lists breaks, conflicts and gaps.

# %%
from villageflow.report.coverage import coverage_figure

quality = vf.datasets.quality(vf.datasets.load("provinces"))
coverage_figure(quality)

# %%
quality.breaks.query("kind == 'detected'").head()

# %% [markdown]
# ## One regression, many errors
#
# Growth of the rural population the year after villages are listed. Thirty-one provinces are few clusters.

# %%
headline = CLAIMS[0]
found = vf.econometrics.estimate(headline.spec, provinces)
print(found.summary())

# %%
vf.econometrics.alternative_errors(headline.spec, provinces, headline.term, n_draws=999)

# %%
vf.econometrics.leave_one_out(headline.spec, provinces, headline.term).head(3)

# %% [markdown]
# ## An event at different times
#
# The first listed village of a province, by group-time averages. A two-way regression would compare provinces with
# others that were treated before: `bacon_decomposition` shows with which weights.

# %%
path = vf.econometrics.estimate(FIRST_LISTING["group-time"], provinces)
path.to_frame().join(path.simultaneous_bands(seed=1).add_prefix("band_")).round(4)

# %%
years = provinces[provinces.index.get_level_values(1).isin(range(2011, 2017))]
vf.econometrics.bacon_decomposition("ln(rural_population) ~ 1", years, cohort="first_listed").round(4)
