"""The JSON face: what the pages show and do, for programs."""
