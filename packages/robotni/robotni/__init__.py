"""robotni: a job runner for Python web apps. A job is a script in its own virtual environment."""

from typing import TYPE_CHECKING, Any, Optional, Union

if TYPE_CHECKING:
    import os

    from fastapi import FastAPI

__version__ = "0.1.0"


def create_app(
    project_folder: "Optional[Union[str, os.PathLike[str]]]" = None, **settings: Any
) -> "FastAPI":
    """robotni as an app to mount in another: `app.mount("/robotni", create_app("/srv/app"))`.

    `settings` are given by their names in lower case (`script_roots=["/srv/app/jobs"]`,
    `workers=2`) and override the environment and the project folder's `.env`. Without
    `project_folder`, that folder is found from the working directory. Each mounted app needs a data
    directory of its own. Raises SettingsError with one line for each wrong setting.
    `app.state.engine` submits and reads jobs without HTTP.
    """
    from robotni.bootstrap import create_app

    return create_app(project_folder, **settings)
