"""What was known about each ticker at the end of each bar. One idea a file; `matrix` joins them. Pure."""
