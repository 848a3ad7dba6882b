"""From a checkpoint to a version that Triton serves: export, publish, verify, run locally."""
