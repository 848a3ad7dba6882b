"""The unit of work, of resuming after a crash and of spreading over machines: shards of a source's samples."""
