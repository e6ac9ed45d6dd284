"""Makes `pip install -e .` in this folder bring everything, robotni's sources themselves included.

An editable install puts the folder above on the path (`dev-mode-dirs`), so `robotni` is imported
from its sources; what it needs, and its command, come along here. To depend on `robotni` as well
would install a copy that hides every later edit. A wheel depends on its sibling like any other.
"""

from pathlib import Path

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.core import ProjectMetadata


class Sibling(BuildHookInterface):
    def initialize(self, version, build_data):
        if version == "editable":
            parent = str(Path(self.root).parent)
            robotni = ProjectMetadata(parent, self.metadata.plugin_manager).core
            build_data["dependencies"] += robotni.dependencies
            self.metadata.core.scripts.update(robotni.scripts)
        else:
            build_data["dependencies"].append(f"robotni=={self.metadata.version}")
