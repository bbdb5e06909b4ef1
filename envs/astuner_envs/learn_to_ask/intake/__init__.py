"""Generated dialogues at the desk of a repair service.

A case is a thing that is broken and a value for each *slot*: how old it is, since when it fails, ….
Which slots matter depends on the thing and on values: an error code is asked for only if the
display shows one, a receipt only if the thing is new (*hidden* slots), and what changed before is
not asked of a thing that was bought last week (*waived* slots). People volunteer values that nobody
asked for, dodge questions, talk beside the point, and mention other people's things in the words of
a slot (*distractors*). So neither a fixed question nor a table of slots knows what is missing.

**How splits are kept apart.** One in six opening messages and one in six combinations of a thing
and its slots' values are reserved, by hash. A dialogue of which both are reserved is held out, one
of which neither is belongs to training, and others are not used: no held-out history, nor any
beginning of one, is ever trained on, and no held-out case. The split ``unseen`` has other things.
"""

from astuner_envs.learn_to_ask.intake.dialogues import Intake, Intakes, Split

__all__ = ["Intake", "Intakes", "Split"]
