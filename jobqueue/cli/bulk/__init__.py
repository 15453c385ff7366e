"""`bulk`: actions on all jobs of a filter that workers do, begun by `jobs ... --in-background`."""
