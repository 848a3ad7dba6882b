"""Readers of the native layouts of public datasets, one small module each."""
