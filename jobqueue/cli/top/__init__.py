"""The verb `top`: `screen.py` asks and redraws, `frame.py` draws what there is."""
