"""Generated grade-school word problems in GSM8K's format, in splits that are apart by construction.

`Problems(split, seed=0, size=N)[i]` is a function of (split, seed, i) alone: nothing is stored, no
other problem is generated, and seeds differ in the problems drawn but not in what a split may hold.

**Parts.** A problem is drawn from a template (a scenario). Its *structure* is the clause chosen for
each slot of the template, its *wording* the paraphrase chosen for each clause, its *item* what it
counts, and its *operands* the numbers of its clauses in order. People and the irrelevant sentence
that four in ten problems carry are drawn freely in every split.

**Reserved** are, for each training template, as functions of the parts alone:

- *structures*, where the sum of choice indices can take at least `LEAST_RESIDUES` values: those
  whose sum falls into one residue class of at most `RESERVED_STRUCTURES`, drawn for each template;
- *wordings*: one in `RESERVED_WORDINGS` of the tuples (structure, wording, item), by a stable hash;
- *operands*: one in `RESERVED_OPERANDS` of the operand tuples, by a stable hash.

**Splits.**

- `train` holds nothing that is reserved.
- `heldout` has reserved operands, and a reserved structure or a reserved wording (or both): new
  numbers in a new combination. Each clause, paraphrase and item of a template alone does occur in
  training, with others.
- `unseen` has templates of its own, told in words that training templates use.

So for any seeds `train` and `heldout` share no (template, operands) and no (template, structure,
wording, item), and `unseen` shares no template with either.
"""

from astuner_envs.gsm8k.problems.generator import Problems, Split
from astuner_envs.gsm8k.problems.records import Parts, Problem, Step

__all__ = ["Parts", "Problem", "Problems", "Split", "Step"]
