"""Tell individual wild animals apart in photographs: train, enroll, match, decide.

The names below are loaded when they are first used: `import reid` alone is quick and needs neither torch nor pandas.
The README has an example of ten lines.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from reid.errors import InputError, Stopped

if TYPE_CHECKING:
    from reid.config.presets import preset
    from reid.config.recipe import Recipe
    from reid.config.runtime import Runtime
    from reid.config.settings import with_settings
    from reid.data.catalogue import NEW_INDIVIDUAL, Catalogue, read_catalogue
    from reid.data.folders import find_photographs
    from reid.decision.artifact import Weights, open_weights
    from reid.decision.calibrate import calibrate_again as calibrate
    from reid.decision.count import count
    from reid.decision.discover import discover
    from reid.decision.discovered import Clusters
    from reid.decision.enroll import enroll_again as enroll
    from reid.decision.matches import Matches
    from reid.decision.metrics import overall, read_solution, score_matches, score_submission
    from reid.decision.predict import predict
    from reid.formats.export_choices import ExportChoices
    from reid.formats.exporting import export_names
    from reid.formats.found import Choices as ImportChoices
    from reid.formats.importing import import_source
    from reid.training.train import train

__all__ = [
    "NEW_INDIVIDUAL",
    "Catalogue",
    "Clusters",
    "ExportChoices",
    "ImportChoices",
    "InputError",
    "Matches",
    "Recipe",
    "Runtime",
    "Stopped",
    "Weights",
    "__version__",
    "calibrate",
    "count",
    "discover",
    "enroll",
    "export_names",
    "find_photographs",
    "import_source",
    "open_weights",
    "overall",
    "predict",
    "preset",
    "read_catalogue",
    "read_solution",
    "score_matches",
    "score_submission",
    "train",
    "with_settings",
]

__version__ = "0.2.0.dev0"

SOURCES = {
    "NEW_INDIVIDUAL": "reid.data.catalogue.NEW_INDIVIDUAL",
    "Catalogue": "reid.data.catalogue.Catalogue",
    "Clusters": "reid.decision.discovered.Clusters",
    "ExportChoices": "reid.formats.export_choices.ExportChoices",
    "ImportChoices": "reid.formats.found.Choices",
    "Matches": "reid.decision.matches.Matches",
    "Recipe": "reid.config.recipe.Recipe",
    "Runtime": "reid.config.runtime.Runtime",
    "Weights": "reid.decision.artifact.Weights",
    "calibrate": "reid.decision.calibrate.calibrate_again",
    "count": "reid.decision.count.count",
    "discover": "reid.decision.discover.discover",
    "enroll": "reid.decision.enroll.enroll_again",
    "export_names": "reid.formats.exporting.export_names",
    "find_photographs": "reid.data.folders.find_photographs",
    "import_source": "reid.formats.importing.import_source",
    "open_weights": "reid.decision.artifact.open_weights",
    "overall": "reid.decision.metrics.overall",
    "predict": "reid.decision.predict.predict",
    "preset": "reid.config.presets.preset",
    "read_catalogue": "reid.data.catalogue.read_catalogue",
    "read_solution": "reid.decision.metrics.read_solution",
    "score_matches": "reid.decision.metrics.score_matches",
    "score_submission": "reid.decision.metrics.score_submission",
    "train": "reid.training.train.train",
    "with_settings": "reid.config.settings.with_settings",
}
"""Where the names that are loaded later are defined; `calibrate` and `enroll` are those of a complete folder."""


def __getattr__(name: str) -> Any:
    if name not in SOURCES:
        raise AttributeError(f"module 'reid' has no attribute {name!r}")
    module, _, attribute = SOURCES[name].rpartition(".")
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return __all__
