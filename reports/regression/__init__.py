"""Verdicts: screen, paired test, rule, calibration, evidence."""
