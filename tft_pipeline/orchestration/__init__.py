"""Thin Dagster: assets, checks, partitions, resources, jobs, schedules, sensors. Logic lives in the stages."""
