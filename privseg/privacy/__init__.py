"""The only place where a raw frame becomes a protected one."""
