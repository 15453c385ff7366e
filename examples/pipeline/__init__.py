"""A pipeline: 200 files are read; when all are, what they import is ranked; then the report is published.

python -m examples.pipeline                                     starts a run, and prints its id
python -m jobqueue worker examples.pipeline.app:app             runs it; kill it, start another: it goes on
python -m jobqueue bundles wait ID examples.pipeline.app:app    shows how far it is

`python -m examples.pipeline FOLDER` reads files of yours. One that is no Python ends its job for good: there is no
report then, and the worker's log says why. Repair the file, and let the same run go on:

python -m jobqueue bundles retry ID examples.pipeline.app:app
"""
