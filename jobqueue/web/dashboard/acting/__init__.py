"""What may be done: each verb changes something through the App, and says who did it."""
