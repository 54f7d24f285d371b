"""What is done with data and runs, one module a verb; ``vje_pyro`` has the functions."""
