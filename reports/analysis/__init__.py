"""From trials to cells, curves, predictions and findings."""
