"""The handles that registering a hook gives."""

from firesteel._hooks import RemovableHandle as RemovableHandle

__all__ = ["RemovableHandle"]
