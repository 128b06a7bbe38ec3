"""What all tests share."""

from hypothesis import HealthCheck, settings

# The machines are noisy: how long an example takes says nothing.
settings.register_profile('tests', deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None)
settings.load_profile('tests')
