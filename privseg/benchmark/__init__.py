"""Accuracy, speed and complexity of the trained candidates, and the choice of one."""
