"""What the forkserver imports when it starts: loads the modules that the ranks will need.

The forkserver of the standard library imports modules by name and ignores an ``ImportError`` only: a framework whose
import fails in another way would end it (``findings/forkserver_preload_lets_only_import_errors_pass.sh``).
"""

from bench.node.forkserver import preload_modules

preload_modules()
