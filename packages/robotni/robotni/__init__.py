"""robotni: a job executor that a web app gets with one pip install."""

from typing import TYPE_CHECKING, Any, Optional, Union

if TYPE_CHECKING:
    import os

    from fastapi import FastAPI

__version__ = "0.1.0"


def create_app(
    project_folder: "Optional[Union[str, os.PathLike[str]]]" = None, **settings: Any
) -> "FastAPI":
    """robotni as an app to mount in yours: `app.mount("/robotni", create_app("/srv/app"))`.

    Settings by their names in small letters (`script_roots=["/srv/app/jobs"]`, `workers=2`) go
    before the environment and the project folder's `.env`, which are read as ever. Without
    `project_folder` it is found from the working directory. Each app needs a data directory of its
    own. Raises SettingsError with a line for each wrong setting. `app.state.engine` submits without
    HTTP.
    """
    from robotni.bootstrap import create_app

    return create_app(project_folder, **settings)
