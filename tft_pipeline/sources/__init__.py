"""The outside world in: files, the simulated market, Yahoo, Massive, Reddit, and transformer scorers."""
