"""Which posts speak of which ticker, in what mood, hour by hour. Pure: the scorer is passed in."""
