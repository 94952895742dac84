"""The commands of `reid`, a module each: the options of its parser, and what it does with a call.

A command reads its input, calls the library, prints results, and names the next step. It imports the modules that need
torch itself, after what it can refuse without them, so that `score` and a wrong call answer at once. Results go to
stdout; everything else is logged.
"""

__all__: list[str] = []
