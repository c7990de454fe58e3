"""Worker side: hosts graphs, drives runs, executes tasks."""
