"""Makes a bare Debian machine ready for Nephos: packages, environments, the system user.

Runs with nothing but a Python 3.9 standard library, because it runs before anything else is there.
"""
