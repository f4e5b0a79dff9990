"""Verdicts on a night: its history, suspects confirmed in pairs, and what was accepted."""
