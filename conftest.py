"""What Hypothesis tries in the tests.

It is the same every time, so that only a change of the code makes a test fail. `make soak` tries
something else each time; what it finds becomes an example of its test.
"""

from hypothesis import settings

settings.register_profile("fixed", derandomize=True)
settings.register_profile("random", derandomize=False, print_blob=True)
settings.load_profile("fixed")
