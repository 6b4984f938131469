"""The outside world in: files, the simulated market, Yahoo, Reddit, and transformer scorers."""
