"""What commands show and write on the machine they run on: progress bars, output files."""
