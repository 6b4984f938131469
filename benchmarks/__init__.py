"""Runnable comparisons against peers and physical limits: `make bench`. Ratios of one run count; absolute figures are one machine's."""
