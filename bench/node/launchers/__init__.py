"""Programs that start ranks: torchrun, mpirun, horovodrun."""
