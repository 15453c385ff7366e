"""The one place of the version; the build reads it from here."""

VERSION = "0.1.0"
__version__ = VERSION
"""As the package root calls it."""
