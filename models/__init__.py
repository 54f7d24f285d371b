"""vje_pyro.models"""
