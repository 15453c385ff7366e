"""Programs to read and to run; tests/examples runs every one of them."""
