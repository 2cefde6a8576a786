"""The graph of a computation, seen: pictures, the backward pass in words, and who holds the memory."""

from firesteel.graph._explain import Explanation as Explanation, Step as Step, explain as explain
from firesteel.graph._leaks import Leak as Leak, find_leaks as find_leaks
from firesteel.graph._memory import Memory as Memory, memory as memory, memory_summary as memory_summary
from firesteel.graph.drawing import Drawing as Drawing, draw as draw
