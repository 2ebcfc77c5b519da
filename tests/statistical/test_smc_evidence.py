"""Evidence of tempered particles over many islands and seeds: no bias, and errors as large as they are said to be.

Design: ten parameters with a flat prior and a normal likelihood, so that the prior holds the posterior as one in ten
to the fourteenth; and two normal modes of unequal spread in three parameters. The particles have no more than the
default number of moves. Steps from all particles instead of the other half of an island made the evidence of ten
parameters a third too large, which is twelve standard errors of what is tested here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from villageflow.calibrate.likelihood import Observable
from villageflow.calibrate.posterior import posterior_summary
from villageflow.calibrate.scales import Box
from villageflow.calibrate.smc import sample_smc

LEVEL = 1e-3


@dataclass(frozen=True)
class Modes:
    """Each parameter is measured once, as 0, in units of its spread around the mode of its side."""

    centres: tuple[float, ...]
    left: float
    right: float
    observables = (Observable("y", "y", "level", "normal", 1.0),)

    @property
    def box(self):
        return Box.of({f"x{i}": ("lin", -10.0, 10.0) for i in range(len(self.centres))})

    @property
    def measurements(self):
        return pd.DataFrame({"observable": "y", "time": np.arange(len(self.centres)), "value": 0.0, "comparator": "="})

    def positions(self, rows):
        return np.zeros(len(rows), dtype=np.intp)

    def locations(self, values, rows):
        right = values[:, :1] > 0
        return (values - np.where(right, 1, -1) * np.array(self.centres)) / np.where(right, self.right, self.left)

    @property
    def log_evidence(self):
        size = len(self.centres)
        whole = 1.0 if self.centres[0] else 0.5  # of each mode, that lies on its own side of 0
        return np.log(whole * (self.left**size + self.right**size)) - size * np.log(20.0)


@pytest.mark.statistical
def test_the_evidence_of_ten_parameters_has_no_bias():
    target = Modes((0.0,) * 10, 0.3, 0.3)
    data = sample_smc(target, seed=1, islands=96, moves=20)
    attrs = data["posterior"].attrs
    assert attrs["log_evidence_error"] < 0.05
    assert abs(attrs["log_evidence"] - target.log_evidence) < stats.t(95).isf(LEVEL / 2) * attrs["log_evidence_error"]


@pytest.mark.statistical
def test_errors_of_the_evidence_of_a_mode_s_weight_and_of_means_are_as_large_as_they_are():
    target, seeds = Modes((4.0, 2.0, 1.0), 0.5, 0.3), 40
    weight = 0.3**3 / (0.5**3 + 0.3**3)
    means = (2 * weight - 1) * np.array(target.centres)
    evidence, shares, scores = np.empty(seeds), np.empty(seeds), np.empty((seeds, 3))
    for seed in range(seeds):
        data = sample_smc(target, seed=seed, particles=300)
        attrs = data["posterior"].attrs
        evidence[seed] = (attrs["log_evidence"] - target.log_evidence) / attrs["log_evidence_error"]
        own = (data["posterior"]["x0"] > 0).mean("draw").to_numpy()
        shares[seed] = (own.mean() - weight) / (own.std(ddof=1) / np.sqrt(8))
        found = posterior_summary(data)
        scores[seed] = (found["mean"] - means) / found["mean_error"]
    for each in (evidence, shares):  # by eight islands: Student's t with seven degrees of freedom
        assert stats.kstest(each, stats.t(7).cdf).pvalue > LEVEL
    low, high = stats.chi2(seeds).ppf([LEVEL / 2, 1 - LEVEL / 2]) / seeds
    assert low < (scores[:, 0] ** 2).mean() < high * 1.2  # a fifth for the error of the error
    assert np.abs(scores).max() < 5
