"""What people look at: tables, plots, contact sheets and pages of a dataset."""
