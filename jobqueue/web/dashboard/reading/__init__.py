"""What there is to see, as models: the pages draw them, the API sends them. Each file has one subject.

A reader takes a `View` (who looks, and with what), asks the database, and leaves out what may not be seen.
"""
