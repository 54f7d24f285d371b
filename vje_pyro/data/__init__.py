"""vje_pyro.data"""
