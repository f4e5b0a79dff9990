"""Trials that have ended and could not be stored: they wait as files in their sweep's folder until it is resumed."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from bench.core.frozen_model import write_model
from bench.core.records import Trial
from harness.store.store import Store

PREFIX = "unstored-"


def keep_unstored(folder: Path, trial: Trial) -> None:
    """Write a trial to a file in its sweep's folder; where that fails too, the trial is taken again."""
    digest = hashlib.sha256(f"{trial.case.key} {trial.round}".encode()).hexdigest()[:16]
    with suppress(OSError):
        write_model(folder, f"{PREFIX}{digest}.json", trial)


def store_kept(folder: Path, sweep: str, store: Store) -> None:
    """Store the trials that were kept, unless they are in the store by now, and remove their files.

    A file that holds no trial is left alone; its trial is taken again.

    Raises:
        StoreError: If one can't be stored now either.
    """
    kept = sorted(folder.glob(f"{PREFIX}*.json"))
    done = store.done(sweep) if kept else set()
    for path in kept:
        with suppress(OSError, ValidationError):
            trial = Trial.model_validate_json(path.read_text())
            if (trial.case.key, trial.round) not in done:
                store.add_trial(sweep, trial)
            path.unlink()
