"""The pages: each file reads one subject, and fills its template of the same name.

A page is a function `(site, request) -> Response`; `sheet.py` draws what is around it.
"""
