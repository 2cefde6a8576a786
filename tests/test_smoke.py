"""The whole story in a few seconds: tensors, gradients, a network that learns, its checkpoint."""

import firesteel
from firesteel import nn
from firesteel.datasets import Digits
from firesteel.utils.data import DataLoader


def test_from_a_tensor_to_a_trained_network(tmp_path):
    x = firesteel.tensor(3.0, requires_grad=True)
    z = 2 * x**2 + 3
    z.backward()
    assert repr(z) == "tensor(21., grad_fn=<AddBackward0>)"
    assert x.grad.item() == 12

    def network():
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))

    firesteel.manual_seed(0)
    loader = DataLoader(Digits(), batch_size=64, shuffle=True)
    model, criterion = network(), nn.CrossEntropyLoss()
    optimizer = firesteel.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(3):
        for images, labels in loader:
            optimizer.zero_grad()
            loss = criterion(model(images), labels)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert losses[-1] < 0.5 < 2 < losses[0]

    firesteel.save(model.state_dict(), tmp_path / "digits.safetensors")
    copy = network()
    copy.load_state_dict(firesteel.load(tmp_path / "digits.safetensors"))
    images, labels = next(iter(loader))
    with firesteel.no_grad():
        assert (copy(images) == model(images)).all()
        assert (copy(images).argmax(1) == labels).float().mean() > 0.9
