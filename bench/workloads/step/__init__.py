"""The parts of a training step that its options choose."""
