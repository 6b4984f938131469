"""Drift statistics and the policy that asks for retraining. Pure."""
