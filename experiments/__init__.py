"""vje_pyro.experiments"""
