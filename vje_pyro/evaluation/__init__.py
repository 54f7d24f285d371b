"""vje_pyro.evaluation"""
