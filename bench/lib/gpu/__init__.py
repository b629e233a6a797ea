"""What ``bench.gpu`` consists of: pools in processes of their own, text beside text, MPS, streams through a daemon, progress that is kept."""
