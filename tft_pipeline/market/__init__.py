"""Bars, trading sessions, quality rules and corporate actions. Pure: frames in, frames out."""
