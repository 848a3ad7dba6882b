"""Where a camera's protected frames go: recordings, playlists, media servers. None of them can hold up another."""
