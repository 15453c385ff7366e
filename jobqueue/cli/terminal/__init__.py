"""What the user reads and answers: tables, questions, log lines, and every error as one line or a traceback."""
