"""Figures: bands where the quantiles are, bytes that depend on content alone, refusals that say why."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from villageflow.errors import ReportError
from villageflow.report.plots import fan, lines, new_figure, save_figure, waterfall


def ensemble(n: int = 101) -> xr.DataArray:
    values = np.linspace(0.0, 1.0, n)[:, None] * np.array([1.0, 2.0, 4.0])[None, :]
    attributes = {"units": "store", "long_name": "Active stores"}
    return xr.DataArray(
        values, dims=("member", "time"), coords={"time": [0.0, 1.0, 2.0]}, name="active_stores", attrs=attributes
    )


def test_a_fan_draws_median_and_bands() -> None:
    ax = fan(ensemble(), levels=(0.5,), scale=2.0, unit="pair")
    np.testing.assert_allclose(ax.lines[0].get_ydata(), [0.25, 0.5, 1.0])
    band = ax.collections[0].get_paths()[0].vertices
    assert band[:, 1].max() == pytest.approx(1.5)
    assert band[band[:, 0] == 0.0, 1].min() == pytest.approx(0.125)
    assert ax.get_ylabel() == "Active stores (pair)"


def test_members_that_are_not_finite_are_left_out_and_counted() -> None:
    values = ensemble()
    values[3, 2] = np.nan
    ax = fan(values, label="prior")
    assert ax.lines[0].get_label() == "prior (1 not finite left out)"
    assert np.isfinite(ax.lines[0].get_ydata()).all()


def test_refusals() -> None:
    with pytest.raises(ReportError, match="dimensions member and time"):
        fan(ensemble().isel(member=0))
    with pytest.raises(ReportError, match="no member"):
        fan(ensemble() * np.nan)
    with pytest.raises(ReportError, match="time alone"):
        lines({"all": ensemble()})
    with pytest.raises(ReportError, match="one variable, not a Dataset; select one"):
        fan(ensemble().to_dataset())
    for wrong in (ensemble(), ensemble().to_dataset()):
        with pytest.raises(ReportError, match=f"not a {type(wrong).__name__}; give {{'name'"):
            lines(wrong)
    with pytest.raises(ReportError, match="'all' is a list"):
        lines({"all": [1.0, 2.0]})
    with pytest.raises(ReportError, match=r"\.svg"):
        save_figure(new_figure()[0], Path("figure.bmp"), alt="nothing")


@pytest.mark.parametrize("suffix", [".svg", ".pdf", ".png"])
def test_equal_figures_have_equal_bytes(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1767225600")
    paths = [tmp_path / f"{name}{suffix}" for name in "ab"]
    for path in paths:
        save_figure(fan(ensemble()).figure, path, alt="a fan")
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_a_notebook_shows_a_figure_without_a_backend() -> None:
    figure, (ax,) = new_figure()
    lines({"one": ensemble().isel(member=0), "two": ensemble().isel(member=5)}, ax=ax)
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["one", "two"]


def test_the_place_of_a_figure_may_be_text(tmp_path):
    assert save_figure(fan(ensemble()).figure, str(tmp_path / "new" / "fan.png"), alt="a fan").is_file()


def test_a_waterfall_shows_every_start_that_was_run() -> None:
    ax = waterfall([-10.0, -np.inf, -12.5, -10.0005])
    (line,) = ax.lines
    np.testing.assert_allclose(line.get_ydata(), [0.0, 0.0005, 2.5], atol=1e-12)
    assert "1 not run" in ax.get_xlabel()
    with pytest.raises(ReportError, match=r"give fit\.starts"):
        waterfall([[1.0]])
