"""What so many streams need: daemons, memory, storage and network, from the calibrated speed of a machine and a simulated queue."""
