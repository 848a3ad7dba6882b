"""The ways to cover a person, each with its honest privacy class."""
