"""A running Dask cluster as a place for ranks: its client, workers and trials."""
