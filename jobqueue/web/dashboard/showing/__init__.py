"""How things look: words for numbers and times, drawings, payloads, and the templates that they go into."""
