"""Thin Dagster: assets, checks, partitions, resources, jobs, schedules, sensors. Logic lives in the stages."""

import warnings

from dagster._utils.warnings import BetaWarning

# Backfill policies are in beta; saying so once for each asset at every start helps nobody.
warnings.filterwarnings("ignore", category=BetaWarning)
