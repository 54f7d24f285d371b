"""vje_pyro.report"""
