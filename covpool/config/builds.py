"""The TensorFlow builds that a run can name, and the environment of each.

`requirements/install.py` and `stages/tf` make and find the environments without this package; tests/test_install.py
and tests/stages/test_launchers.py check that they agree with this list.
"""

#: build -> folder of its environment in the project
BUILDS = {"intel": ".venv-tf115", "stock": ".venv-tf115-stock", "tf2": ".venv-tf2"}
#: Stands for the build that was set up last, to whose environment the link leads.
DEFAULT, LINK = "default", ".venv-tf"
