"""The harness as a library: stored results as data frames and figures, and sweeps run from a program or a notebook.

``import harness`` gives its functions; this package is loaded when the first of them is used.
"""
