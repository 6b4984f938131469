"""Hourly market forecasts that can be audited: bars and posts in, decisions and a marked portfolio out."""

__version__ = "0.1.0"
