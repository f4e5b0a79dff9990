"""The sites, where the processes of a case run: one package each, whose module ``site`` defines ``SITE``."""

NOT_PLUGINS = frozenset({"base"})
"""What sites share."""
