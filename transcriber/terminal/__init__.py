"""Output of commands on their own machine: progress bars, output files."""
