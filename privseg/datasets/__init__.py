"""Public datasets in, one versioned set of images and binary human masks out."""
