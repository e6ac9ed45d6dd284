"""Build hook: `pip install -e .` in this folder installs everything, robotni itself included.

An editable install puts the parent folder on the path (`dev-mode-dirs`), so `robotni` is imported
from its sources; the hook adds what `robotni` depends on, and its command. With a dependency on
`robotni`, pip would install a copy that hides every later edit. A wheel does depend on `robotni`.
"""

from pathlib import Path

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.core import ProjectMetadata


class RobotniHook(BuildHookInterface):
    def initialize(self, version, build_data):
        if version == "editable":
            parent = str(Path(self.root).parent)
            robotni = ProjectMetadata(parent, self.metadata.plugin_manager).core
            build_data["dependencies"] += robotni.dependencies
            self.metadata.core.scripts.update(robotni.scripts)
        else:
            build_data["dependencies"].append(f"robotni=={self.metadata.version}")
