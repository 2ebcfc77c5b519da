"""Monte Carlo evidence for the calibration layer: systems with known truth, fits of many panels, and the page."""
