"""Cameras and files in, protected pictures out."""
