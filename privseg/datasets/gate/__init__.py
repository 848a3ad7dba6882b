"""The parts of `privseg.datasets.validate`: its checks as data, the tables they run on, the files, the page."""
