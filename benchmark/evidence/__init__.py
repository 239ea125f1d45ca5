"""What results/published shows: publishing runs, and the tables and figures of RESULTS.md."""
