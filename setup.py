"""All metadata is in setup.cfg."""

from setuptools import setup
from setuptools.command.sdist import sdist


class PackageOnly(sdist):
    """A source distribution without tests: setuptools takes the files named test*.py, and not what they need."""

    def make_release_tree(self, base_dir, files):
        """Leave the tests out."""
        super().make_release_tree(base_dir, [name for name in files if not name.startswith('tests')])


setup(cmdclass={'sdist': PackageOnly})
