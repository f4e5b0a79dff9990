"""A Dask cluster that exists, or one that dask-jobqueue starts."""
