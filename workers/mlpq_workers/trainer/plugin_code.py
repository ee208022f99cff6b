"""The code of the plug-in of a training process: part of the environment of its attempts."""

from __future__ import annotations

from dataclasses import dataclass

from mlpq import plugins
from mlpq.errors import MlpqError


@dataclass(frozen=True)
class PluginCode:
    """A package, "name==version", the modules with its code, and the SHA-256 of that."""

    package: str
    modules: tuple[str, ...]
    sha256: str

    @classmethod
    def of(cls, package: str) -> PluginCode:
        """The code that is installed now; raises MlpqError where that is not this version."""
        if package not in plugins.packages():
            raise MlpqError(f"{package} is not installed here")
        modules = tuple(plugins.modules_of(package))
        return cls(package, modules, plugins.code_sha256(modules))

    @property
    def facts(self) -> dict[str, object]:
        """What of it belongs to the environment of an attempt."""
        return {"plugin": self.package, "plugin_sha256": self.sha256}

    def check(self) -> None:
        """Raise MlpqError where other code is installed by now."""
        if self.package not in plugins.packages() or plugins.code_sha256(self.modules) != self.sha256:
            raise MlpqError(f"{self.package} has changed since the training process started")
