"""The backends: one module or one package each, found by :mod:`bench.plugins.registry`."""

NOT_PLUGINS = frozenset(
    {
        "horovod_settings",
        "ddp_compression",
        "ddp_sharding",
        "fsdp_precision",
        "horovod_emulated_ranks",
        "horovod_hosts",
        "horovod_rendezvous",
        "programs",
        "torch_distributed",
    }
)
"""Modules here that backends share."""
