"""What may be chosen on the command line of `reid review`; in a module of its own, because the others need torch."""

__all__ = ["CONFLICTS", "MODES"]

MODES = {
    "clusters": "which unknown photographs show one animal",
    "names": "whether the names that predict proposes are right",
    "stranger": "whether a photograph of an individual shows another one",
    "split": "whether two animals have one name",
    "merge": "whether one animal has two names",
}
"""What may be asked, in a few words; the last three are about the database."""

CONFLICTS = ("old", "new", "neither")
"""Whose answer stands where two people contradict each other."""
