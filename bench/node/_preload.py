"""What the fork server imports when it starts: loads the modules that the ranks will need.

The fork server of the standard library imports modules by name, and lets only an ``ImportError`` pass: a framework
whose import fails in another way would end it.
"""

from bench.node.forkserver import preload_modules

preload_modules()
