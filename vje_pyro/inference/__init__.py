"""vje_pyro.inference"""
