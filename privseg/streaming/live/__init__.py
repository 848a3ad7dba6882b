"""The live page: every camera in a browser, its people covered."""
