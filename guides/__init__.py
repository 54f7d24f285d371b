"""vje_pyro.guides"""
