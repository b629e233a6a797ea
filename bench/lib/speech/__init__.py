"""What is played: voices that read texts, recordings of people, noise, music, and copies in worse conditions."""
