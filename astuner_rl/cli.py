"""The console command ``astuner``: ``astuner train env=gsm8k algo=grpo``."""

from __future__ import annotations

import sys

USAGE = """\
usage: astuner COMMAND [key=value ...]

  astuner train       train an agent
  astuner evaluate    measure a policy on held-out tasks
  astuner play        type tasks for an agent, and see each of its calls
  astuner replay      prove that a run's weights come from what it recorded
  astuner rescore     judge a finished run with another judge

astuner COMMAND --help lists its settings.
"""


def main() -> int:
    """Run the command that the first argument names; see :class:`astuner_rl.command.ExitStatus`."""
    name, *arguments = sys.argv[1:] or ["--help"]
    # Imported here, because torch takes seconds to import and usage needs none of it.
    match name:
        case "train":
            from astuner_rl.train import main as run
        case "evaluate":
            from astuner_rl.evaluate import main as run
        case "play":
            from astuner_rl.play import main as run
        case "replay":
            from astuner_rl.replay import main as run
        case "rescore":
            from astuner_rl.rescore import main as run
        case "-h" | "--help":
            print(USAGE, end="")
            return 0
        case _:
            print(f"error: there is no command {name!r}\n{USAGE}", end="", file=sys.stderr)
            return 2
    return run(arguments)
