"""The candidate models, as mmsegmentation configs, and how they are trained and measured."""
