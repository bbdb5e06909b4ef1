"""Values that lie in the object store as long as the run does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Self, TypeVar, cast

import ray
from ray import ObjectRef, cloudpickle

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Kept(Generic[T]):
    """Says where a value lies that actors read again when they are started anew.

    As bytes: a plain reference among the arguments of such an actor is answered with an error on
    the screen, since it might go out of scope. One that has been serialized never does.
    """

    reference: bytes

    @classmethod
    def put(cls, value: T) -> Self:
        """Keep a value until the process that calls this ends."""
        return cls(cloudpickle.dumps(ray.put(value)))

    def get(self) -> T:
        """Return the value, in any process; it may be mapped from memory that others read."""
        value: T = ray.get(self._reference())
        return value

    async def fetch(self) -> T:
        """Return the value as ``get`` does, where blocking would stop others."""
        value: T = await self._reference()
        return value

    def _reference(self) -> ObjectRef[T]:
        return cast("ObjectRef[T]", cloudpickle.loads(self.reference))
