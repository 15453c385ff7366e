"""What people and programs do to stored jobs: which ones are meant, what is done, and who did it."""
