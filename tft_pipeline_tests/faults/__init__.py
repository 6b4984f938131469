"""What really breaks, made to break: kills, races, restarts, lost events. `make faults` runs all of it, `make test` a part."""
