"""vje_pyro.training"""
