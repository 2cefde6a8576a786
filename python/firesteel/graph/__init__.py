"""The graph of a computation, seen: pictures, the backward pass in words, and who holds the memory."""

from firesteel.graph._explain import Explanation as Explanation, Step as Step, explain as explain
from firesteel.graph.drawing import Drawing as Drawing, draw as draw
