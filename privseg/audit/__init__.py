"""Does what serves still cover people? Golden clips go through the live servers, as a camera's frames do."""
