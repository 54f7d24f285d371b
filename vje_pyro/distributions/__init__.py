"""vje_pyro.distributions"""
