"""Pictures of graphs: what is in them, and that they can be read."""

import re
import xml.etree.ElementTree as ElementTree

import pytest

import firesteel
from firesteel import nn
from firesteel.graph import draw, drawing as drawing_module
from firesteel.graph.layout import BESIDE, spread
from firesteel.graph.svg import layout_of
from firesteel.utils.checkpoint import checkpoint

F = nn.functional
SVG = "{http://www.w3.org/2000/svg}"


def mlp():
    """A model of two layers, its input and its loss."""
    firesteel.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    x = firesteel.randn(5, 4)
    return model, x, F.cross_entropy(model(x), firesteel.tensor([0, 1, 2, 0, 1]))


class Block(nn.Module):
    def __init__(self, channels, out, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.shortcut = None
        if stride != 1 or channels != out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out)
            )

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + (x if self.shortcut is None else self.shortcut(x)))


class ResNet(nn.Module):
    """ResNet-18 with few channels."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        widths = [4, 4, 6, 8, 10]
        for stage in range(1, 5):
            before, after = widths[stage - 1 : stage + 1]
            stride = 1 if stage == 1 else 2
            setattr(
                self, f"layer{stage}", nn.Sequential(Block(before, after, stride), Block(after, after, 1))
            )
        self.fc = nn.Linear(10, 2)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 2)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(F.avg_pool2d(x, 2).flatten(1))


def resnet():
    """The model and its loss."""
    firesteel.manual_seed(0)
    model = ResNet()
    return model, F.cross_entropy(model(firesteel.randn(2, 3, 32, 32)), firesteel.tensor([0, 1]))


def chain(length):
    """A graph of so many operations, one after the other."""
    z = x = firesteel.ones(2, requires_grad=True)
    for _ in range(length):
        z = z.sin()
    return x, z


def wide(count):
    """A graph of one operation on many leaves."""
    return firesteel.stack([firesteel.ones(2, requires_grad=True) for _ in range(count)]).sum()


GRAPHS = {
    "mlp": lambda: mlp()[::2],
    "resnet": resnet,
    "chain": lambda: (None, chain(300)[1]),
    "wide": lambda: (None, wide(500)),
}


def titles(drawing):
    """Titles of all boxes, oldest first."""
    return [drawing.model.boxes[key].title for key in sorted(drawing.model.boxes)]


# --- what is in it ----------------------------------------------------------------------------------------


def test_the_svg_of_an_mlp_has_names_shapes_dtypes_and_bytes():
    model, x, loss = mlp()
    picture = draw(loss, model, names={"x": x, "loss": loss}).svg()
    texts = [element.text for element in ElementTree.fromstring(picture).iter(f"{SVG}text")]
    for expected in (
        "0.weight",
        "2.bias",
        "(8, 4) float32",
        "(5, 3) float32",
        "linear",
        "relu",
        "cross_entropy",
    ):
        assert any(expected in text for text in texts), expected
    assert "keeps x (5, 4), 80 B" in texts
    assert "keeps output (5, 8), 160 B" in texts
    assert "4 operations, 4 parameters of 67 elements" in texts[0]


def test_gradients_appear_after_backward():
    model, _, loss = mlp()
    assert "grad" not in draw(loss, model).text()
    loss.backward(retain_graph=True)
    norm = float(model[0].weight.grad.square().sum().sqrt())
    assert f"grad (8, 4), norm {norm:.3g}" in draw(loss, model).text()
    assert "norm" not in draw(loss, model, grads=False).text()


def test_a_retained_gradient_appears_at_its_operation():
    x = firesteel.ones(2, requires_grad=True)
    y = x * 3
    y.retain_grad()
    z = y.sum()
    z.backward()
    assert "y = mul" in draw(z, names={"y": y}).text()
    assert "grad (2,), norm 1.41" in draw(z, names={"y": y}).text()


def test_a_freed_graph_is_drawn_without_saved_tensors():
    model, _, loss = mlp()
    assert "keeps" in draw(loss, model).text()
    loss.backward()
    freed = draw(loss, model).text()
    assert "keeps" not in freed
    assert "0 B saved for backward" in freed
    assert "linear" in freed


def test_single_numbers_are_shown_and_constants_explained():
    w = firesteel.tensor(3.0, requires_grad=True)
    z = (w * 2 - 1).square()
    z.backward(retain_graph=True)
    picture = draw(z, names={"w": w, "z": z}).svg()
    texts = [element.text for element in ElementTree.fromstring(picture).iter(f"{SVG}text")]
    assert texts.count("() float32 = 3.0") == 1
    assert "grad 20.0" in texts
    assert "z = square" not in texts and "z" in texts  # the result has a box of its own
    assert "keeps constant (), 4 B" in texts and "keeps input (), 4 B" in texts
    note = "Inputs that need no gradient (constants) are not drawn."
    assert note in texts
    assert note not in draw(w.exp()).svg()


def test_what_is_kept_is_named_after_what_made_it():
    x = firesteel.ones(2, requires_grad=True)
    text = draw(x.exp() * x.sin()).text()
    assert "keeps exp's output (2,), 8 B; keeps sin's output (2,), 8 B" in text


def test_a_custom_operation_has_the_name_of_its_class():
    class LogCosh(firesteel.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1

        @staticmethod
        def backward(ctx, grad):
            return grad

    drawing = draw(LogCosh.apply(firesteel.ones(2, requires_grad=True)))
    assert titles(drawing) == ["leaf", "LogCosh", "result"]


def test_saved_tensors_can_be_left_out():
    model, _, loss = mlp()
    assert "keeps output" not in draw(loss, model, saved=False).svg()


def test_several_results_are_drawn():
    x = firesteel.ones(2, requires_grad=True)
    drawing = draw([x.exp(), x.sin()], names={"x": x})
    assert titles(drawing) == ["x", "exp", "sin", "result 1", "result 2"]


def test_a_tensor_that_is_used_twice_has_one_thick_arrow():
    x = firesteel.ones(2, requires_grad=True)
    drawing = draw(x * x, names={"x": x})
    assert max(drawing.model.arrows.values()) == 2
    assert "used 2 times" in drawing.svg()
    assert "×2" in drawing.dot() and "×2" in drawing.mermaid() and "x ×2" in drawing.text()


def test_dot_and_mermaid_have_a_line_for_every_box_and_arrow():
    model, _, loss = mlp()
    drawing = draw(loss, model)
    boxes, arrows = len(drawing.model.boxes), len(drawing.model.arrows)
    dot = drawing.dot()
    assert dot.startswith("digraph") and dot.count("{") == dot.count("}")
    assert len(re.findall(r"^ +n\d+ \[label=", dot, re.MULTILINE)) == boxes
    assert dot.count(" -> ") == arrows
    mermaid = drawing.mermaid()
    assert mermaid.startswith("flowchart TD\n")
    assert mermaid.count(":::") == boxes
    assert mermaid.count(" -->") == arrows
    assert mermaid.count("subgraph") == mermaid.count("\n  end\n") == 2  # the two layers


def test_names_with_signs_are_escaped():
    x = firesteel.ones(2, requires_grad=True)
    name = 'a<b> & "c"'
    drawing = draw(x.exp(), names={name: x})
    texts = [element.text for element in ElementTree.fromstring(drawing.svg()).iter(f"{SVG}text")]
    assert name in texts
    assert 'a<b> & \\"c\\"' in drawing.dot()
    assert "a&lt;b&gt; &amp; &quot;c&quot;" in drawing.mermaid()


def test_the_drawing_keeps_nothing_alive():
    model, x, loss = mlp()
    drawing = draw(loss, model, names={"x": x})
    before = drawing.svg()
    node = loss.grad_fn
    loss.backward()  # frees what was saved: the drawing shows what was
    assert drawing.svg() == before
    assert node._saved == []


def test_hooks_are_shown():
    x = firesteel.ones(2, requires_grad=True)
    y = x.exp()
    z = y.sum()
    assert "hook" not in draw(z).text()
    y.register_hook(lambda grad: grad)
    y.register_hook(lambda grad: grad)
    y.retain_grad()  # no hook of the program
    z.grad_fn.register_prehook(lambda grads: grads)
    x.register_hook(lambda grad: grad)
    hooks = {box.title: box.hooks for box in draw(z, names={"x": x}).model.boxes.values()}
    assert hooks == {"x": 1, "exp": 2, "sum": 1, "result": 0}
    assert re.search(r"x +leaf +\(2,\) float32 +1 hook\n", draw(z, names={"x": x}).text())
    assert "; 2 hooks" in draw(z).text() and ">2 hooks</text>" in draw(z).svg()


def test_packed_tensors_and_parts_of_larger_memory_are_told():
    x = firesteel.ones(3, requires_grad=True)
    with firesteel.autograd.graph.saved_tensors_hooks(lambda t: t.double(), lambda t: t.float()):
        packed = x.exp()
    assert "keeps output (3,), packed in 24 B" in draw(packed).text()
    with firesteel.autograd.graph.saved_tensors_hooks(lambda t: t.tolist(), firesteel.tensor):
        packed = x.exp()
    assert "keeps output (3,), packed by a hook" in draw(packed).text()
    big = firesteel.ones(1000)
    assert "keeps constant (3,), part of 3.9 KiB" in draw(big[:3] * x).text()


def test_a_reentrant_checkpoint_has_its_name():
    layer = nn.Linear(3, 1)
    result = checkpoint(layer, firesteel.ones(2, 3, requires_grad=True), use_reentrant=True)
    assert titles(draw(result))[1:] == ["checkpoint", "result"]


def test_pictures_under_anomaly_mode_have_modules_by_name():
    with firesteel.autograd.detect_anomaly():
        model, _, loss = mlp()
        traced = draw(loss, model)
    plain = draw(mlp()[2], model)
    modules = [box.module for box in traced.model.boxes.values() if box.kind == "operation"]
    assert set(modules) == {"", "0", "1", "2"}
    assert operations(traced) == operations(plain)
    with firesteel.autograd.detect_anomaly():
        penalised = draw(loss + model[0].weight.square().sum(), model)
    # Of no module: what happened outside of them is known, and not told by the parameter.
    assert {box.title: box.module for box in penalised.model.boxes.values()}["square"] == ""
    assert f"{__file__}:" in traced.svg()  # in the tooltips


def operations(drawing):
    """Titles and results of the boxes of operations."""
    return [(box.title, box.outputs) for box in drawing.model.boxes.values() if box.kind == "operation"]


# --- formats and files ------------------------------------------------------------------------------------


def test_the_source_is_in_the_format_asked_for(tmp_path):
    model, _, loss = mlp()
    for format, suffix in (("svg", ".svg"), ("dot", ".gv"), ("mermaid", ".mmd"), ("text", ".txt")):
        drawing = draw(loss, model, format=format)
        assert str(drawing) == getattr(drawing, format)()
        drawing.save(tmp_path / f"graph{suffix}")
        assert (tmp_path / f"graph{suffix}").read_text(encoding="utf-8") == str(drawing)
    assert draw(loss, model, format="text")._repr_svg_().startswith("<svg")


def test_an_unknown_suffix_writes_nothing(tmp_path):
    _, z = chain(1)
    with pytest.raises(ValueError, match=r"'graph.png' ends in none of the suffixes .svg"):
        draw(z).save(tmp_path / "graph.png")
    assert not list(tmp_path.iterdir())


# --- how it looks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("fold", [None, False])
def test_pictures_are_well_formed_and_always_the_same(name, fold):
    module, z = GRAPHS[name]()
    drawing = draw(z, module, fold=fold)
    root = ElementTree.fromstring(drawing.svg())
    assert len(root.findall(f".//{SVG}g[@class='fs-box']")) == len(drawing.model.boxes)
    module, z = GRAPHS[name]()  # recorded once more
    again = draw(z, module, fold=fold)
    for format in ("svg", "dot", "mermaid", "text"):
        assert getattr(drawing, format)() == getattr(again, format)()


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("fold", [None, False])
def test_boxes_are_inside_the_canvas_and_do_not_overlap(name, fold):
    module, z = GRAPHS[name]()
    layout = layout_of(draw(z, module, fold=fold).model)
    boxes = sorted(layout.boxes.values(), key=lambda box: box[1])
    for left, top, width, height in boxes:
        assert left >= 0 and top >= 0
        assert left + width <= layout.width and top + height <= layout.height
    for number, (left, top, width, height) in enumerate(boxes):
        for other_left, other_top, other_width, _ in boxes[number + 1 :]:
            beside = left + width <= other_left or other_left + other_width <= left
            assert beside or top + height <= other_top


def _points(chain):
    """Points along an arrow: its lines and curves."""
    for number, ((x, y), (to_x, to_y)) in enumerate(zip(chain, chain[1:], strict=False)):
        for step in range(11):
            t = step / 10
            bend = rise = t
            if number % 2:  # a cubic curve whose control points are half way down
                bend = 3 * t**2 - 2 * t**3
                rise = 1.5 * (1 - t) ** 2 * t + 1.5 * (1 - t) * t**2 + t**3
            yield x + (to_x - x) * bend, y + (to_y - y) * rise


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("fold", [None, False])
def test_arrows_join_their_boxes_and_cross_no_other(name, fold):
    module, z = GRAPHS[name]()
    layout = layout_of(draw(z, module, fold=fold).model)
    for (start, end), chain in layout.arrows.items():
        left, top, width, height = layout.boxes[start]
        assert left <= chain[0][0] <= left + width and chain[0][1] == pytest.approx(top + height)
        left, top, width, _ = layout.boxes[end]
        assert left <= chain[-1][0] <= left + width and chain[-1][1] == pytest.approx(top)
        for x, y in _points(chain):
            for key, (left, top, width, height) in layout.boxes.items():
                if key not in (start, end):
                    assert not (left < x < left + width and top < y < top + height), (start, end, key)


def test_a_chain_is_drawn_straight():
    layout = layout_of(draw(chain(10)[1]).model)
    assert len({round(left + width / 2, 3) for left, _, width, _ in layout.boxes.values()}) == 1


def test_the_main_line_of_a_residual_block_is_straight():
    model = nn.Sequential(Block(3, 3, 1))
    drawing = draw(model(firesteel.ones(2, 3, 4, 4, requires_grad=True)), model)
    layout = layout_of(drawing.model)
    line = [
        key for key, box in drawing.model.boxes.items() if box.title in ("add", "convolution", "batch_norm")
    ]
    ends = [(left, left + width) for left, _, width, _ in map(layout.boxes.get, line)]
    assert len(ends) == 5
    middles = [(left + right) / 2 for left, right in ends]
    assert max(middles[1:]) - min(middles[1:]) < 1
    assert max(left for left, _ in ends) < min(right for _, right in ends)  # also the sum is below them


def test_text_fits_into_its_box():
    pil = pytest.importorskip("PIL.ImageFont")
    fonts = pytest.importorskip("matplotlib.font_manager")
    path = fonts.findfont("DejaVu Sans")  # wider than the fonts of most systems
    module, z = resnet()
    for fold in (None, False):
        root = ElementTree.fromstring(draw(z, module, fold=fold).svg())
        for box in root.findall(f".//{SVG}g[@class='fs-box']"):
            width = float(box.find(f"{SVG}rect").get("width"))
            for text in box.findall(f"{SVG}text"):
                font = pil.truetype(path, float(text.get("font-size")))
                assert font.getlength(text.text) < width, text.text


def test_spread_keeps_order_and_gaps_and_is_least_squares():
    assert spread([0.0, 100.0], [1.0, 1.0], [BESIDE]) == [0.0, 100.0]
    assert spread([0.0, 0.0], [1.0, 1.0], [10.0]) == [-5.0, 5.0]
    assert spread([0.0, 0.0], [3.0, 1.0], [10.0]) == [-2.5, 7.5]


# --- folding ----------------------------------------------------------------------------------------------


def test_a_resnet_is_folded_into_its_blocks():
    model, loss = resnet()
    drawing = draw(loss, model)
    blocks = [f"layer{stage}.{block}" for stage in range(1, 5) for block in range(2)]
    expected = [
        "conv1",
        "bn1",
        "relu",
        "max_pool2d",
        *blocks,
        "avg_pool2d",
        "view",
        "fc",
        "cross_entropy",
        "result",
    ]
    assert titles(drawing) == expected
    first = drawing.model.boxes[next(k for k, b in drawing.model.boxes.items() if b.title == "layer1.0")]
    assert first.members == {"convolution": 2, "batch_norm": 2, "relu": 2, "add": 1}
    assert first.parameters == 6
    assert first.numel == sum(parameter.numel() for parameter in model.layer1[0].parameters())
    assert first.saved_bytes > 0
    other = drawing.model.boxes[next(k for k, b in drawing.model.boxes.items() if b.title == "layer2.0")]
    assert other.members == {"convolution": 3, "batch_norm": 3, "relu": 2, "add": 1}


@pytest.mark.parametrize("fold", [None, False, 1, 2, ["layer2", "layer3.1"]])
def test_folding_loses_no_operation_or_parameter(fold):
    model, loss = resnet()
    drawing = draw(loss, model, fold=fold)
    whole = draw(loss, model, fold=False)
    assert drawing.model.summary() == whole.model.summary()
    assert f"{len(list(model.parameters()))} parameters" in drawing.model.summary()


def test_modules_can_be_folded_by_name_and_depth():
    model, loss = resnet()
    named = draw(loss, model, fold=["layer2", "layer3.1"])
    assert {box.title for box in named.model.boxes.values() if box.kind == "module"} == {"layer2", "layer3.1"}
    depth = draw(loss, model, fold=1)
    modules = {box.title for box in depth.model.boxes.values() if box.kind == "module"}
    assert modules == {name for name, _ in model.named_children()}
    with pytest.raises(ValueError, match="no operation belongs to layer9; modules in this graph: bn1, conv1"):
        draw(loss, model, fold=["layer9"])
    with pytest.raises(ValueError, match="fold=0 is no depth"):
        draw(loss, model, fold=0)


@pytest.mark.parametrize("out", [3, 6])  # the shortcut passes x on, or is a module
def test_the_sum_with_a_shortcut_belongs_to_the_block(out):
    model = nn.Sequential(nn.Conv2d(3, 3, 1), Block(3, out, 1))
    drawing = draw(model(firesteel.ones(2, 3, 4, 4)).mean(), model, fold=False)
    boxes = [drawing.model.boxes[key] for key in sorted(drawing.model.boxes)]
    assert [box.module for box in boxes if box.title in ("add", "relu")] == ["1", "1", "1"]


def test_a_module_that_is_called_twice_is_two_boxes():
    layer, between = nn.Linear(3, 3), nn.Linear(3, 3)
    model = nn.ModuleDict({"layer": layer, "between": between})
    z = layer(between(layer(firesteel.ones(2, 3)))).sum()
    drawing = draw(z, model, fold=1)
    assert [title for title in titles(drawing) if title in model] == ["layer", "between", "layer"]
    layout_of(drawing.model)  # which needs a graph without circles


# --- large graphs -----------------------------------------------------------------------------------------


def test_a_long_chain_is_abbreviated_and_says_so():
    x, z = chain(100_000)
    drawing = draw(z, names={"x": x}, max_nodes=50)
    assert 45 <= len(drawing.model.boxes) <= 50
    text = drawing.text()
    assert re.search(r"… 99,9\d\d operations not drawn", text)
    assert text.startswith("100,000 operations")
    assert titles(drawing)[0] == "x" and titles(drawing)[-1] == "result"
    assert "not drawn" in drawing.svg() and "not drawn" in drawing.dot() and "not drawn" in drawing.mermaid()


def test_one_operation_is_not_hidden_behind_a_box_of_its_size():
    for length in (6, 7, 8, 9):
        x, z = chain(length)
        drawing = draw(z, names={"x": x}, max_nodes=length + 1)  # one box too few
        hidden = [box.operations for box in drawing.model.boxes.values() if box.kind == "omitted"]
        assert hidden == [] or hidden[0] > 1
        assert len(titles(drawing)) <= length + 2


def parts(length):
    """A long graph that uses a parameter at its start, many in its middle, and the first again at its end."""
    parameters = [nn.Parameter(firesteel.ones(2)) for _ in range(length + 1)]
    z = parameters[0].exp()
    for parameter in parameters[1:]:
        z = z * parameter
    return parameters, (z + parameters[0]).sum()


def test_a_graph_that_is_cut_before_it_is_read_counts_all_that_is_in_it(monkeypatch):
    parameters, z = parts(1000)
    first = parameters[0]
    whole = draw(z, names={"first": first}, max_nodes=20)
    monkeypatch.setattr(drawing_module, "READ", 300)
    monkeypatch.setattr(drawing_module, "READ_FOR_EACH", 5)
    cut = draw(z, names={"first": first}, max_nodes=20)
    assert cut.model.summary() == whole.model.summary()
    assert "1,003 operations, 1,001 parameters of 2,002 elements" in cut.text()
    (omitted,) = [box for box in cut.model.boxes.values() if box.kind == "omitted" and box.operations > 1]
    assert omitted.title == f"… {omitted.operations} operations not drawn"
    assert omitted.operations + sum(box.kind == "operation" for box in cut.model.boxes.values()) == 1003
    assert sum(end == max(cut.model.boxes) for _, end in cut.model.arrows) == 1
    starts = {cut.model.boxes[end].title for start, end in cut.model.arrows if start == first_key(cut)}
    assert starts == {"exp", "add"}
    ElementTree.fromstring(cut.svg())


def first_key(drawing):
    """The box of the leaf with a name."""
    (key,) = [key for key, box in drawing.model.boxes.items() if box.names == ["first"]]
    return key


def test_a_graph_of_very_many_leaves_is_cut_too(monkeypatch):
    monkeypatch.setattr(drawing_module, "READ", 300)
    monkeypatch.setattr(drawing_module, "READ_FOR_EACH", 5)
    drawing = draw(wide(1000), max_nodes=20)
    assert drawing.model.summary().startswith("2 operations, ")
    assert re.search(r"… \d+ tensors not drawn", drawing.text())
    ElementTree.fromstring(drawing.svg())


def test_many_leaves_of_one_operation_are_abbreviated():
    drawing = draw(wide(10_000))
    assert len(drawing.model.boxes) < 20
    assert "… 9,996 tensors not drawn" in drawing.svg()


def test_max_nodes_must_leave_room():
    with pytest.raises(ValueError, match="max_nodes=1: at least 2"):
        draw(chain(3)[1], max_nodes=1)


# --- what cannot be drawn ---------------------------------------------------------------------------------


def test_tensors_without_a_graph_are_refused():
    x = firesteel.ones(2, 3)
    with pytest.raises(
        RuntimeError, match=r"draw: the tensor of shape \(2, 3\) and dtype float32 does not require"
    ):
        draw(x)
    with pytest.raises(RuntimeError, match="does not require grad"):
        draw((x.requires_grad_() * 2).detach())
    with pytest.raises(RuntimeError, match="is a leaf, no operation made it"):
        draw(x)
    with pytest.raises(TypeError, match="draw: expected a Tensor or a sequence of them, not float"):
        draw(1.0)
    with pytest.raises(ValueError, match="the sequence of tensors is empty"):
        draw([])


def test_other_wrong_arguments_are_refused():
    _, z = chain(1)
    with pytest.raises(ValueError, match="format='png'; use one of 'svg', 'dot', 'mermaid', 'text'"):
        draw(z, format="png")
    with pytest.raises(TypeError, match="module must be an nn.Module, not dict"):
        draw(z, {})
    with pytest.raises(TypeError, match=r"names\['x'\] must be a Tensor, not int"):
        draw(z, names={"x": 3})


def test_names_that_are_no_dict():
    x = firesteel.ones(2, requires_grad=True)
    with pytest.raises(
        TypeError, match=r'draw: names must be a dict of tensors by name, not list; pass \{"x": x\}'
    ):
        draw((x * 2).sum(), names=[x])
