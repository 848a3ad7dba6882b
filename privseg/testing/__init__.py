"""Public test doubles: a tiny dataset maker, a fake camera, a segmenter that fails on demand."""
