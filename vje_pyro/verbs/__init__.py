"""What can be done with data and runs, one module per verb; ``vje_pyro`` has the functions."""
