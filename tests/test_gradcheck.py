"""gradcheck finds wrong gradients and says what is wrong."""

import pytest

import firesteel
from firesteel.autograd import GradcheckError, gradcheck, gradgradcheck


def point(*values, dtype="float64"):
    return firesteel.tensor(values, dtype=getattr(firesteel, dtype), requires_grad=True)


@pytest.mark.parametrize(
    "options", [{}, {"fast_mode": True}, {"check_undefined_grad": True, "check_grad_dtypes": True}]
)
def test_right_gradients_pass(options):
    assert gradcheck(lambda x, y: (x * y, x.exp()), (point(1.0, 2.0), point(0.5, -1.0)), **options)
    assert gradgradcheck(lambda x, y: (x * y, x.exp()), (point(1.0, 2.0), point(0.5, -1.0)))
    assert gradgradcheck(lambda x: x * 3, point(1.0, 2.0), gen_non_contig_grad_outputs=True)


@pytest.mark.parametrize(
    "function, cause",
    [
        (lambda x: x * x.detach(), "constant factor"),
        (lambda x: x.exp().detach() + x * 0, "no gradient flows"),
        (lambda x: x.detach() * 2 - x, "sign"),
    ],
)
def test_wrong_gradients_are_reported(function, cause):
    with pytest.raises(GradcheckError, match=cause) as raised:
        gradcheck(function, point(1.0, 2.0))
    text = str(raised.value)
    assert "output 0" in text and "input 0" in text and "d output[0] / d input[0]: analytic" in text
    assert not gradcheck(function, point(1.0, 2.0), raise_exception=False)
    assert not gradcheck(function, point(1.0, 2.0), fast_mode=True, raise_exception=False)


def test_float32_is_named_as_the_cause():
    with pytest.raises(GradcheckError, match="float64"):
        gradcheck(lambda x: x.exp(), point(1.0, 2.0, dtype="float32"))


def test_nothing_to_check():
    with pytest.raises(ValueError, match="requires_grad"):
        gradcheck(lambda x: x, firesteel.ones(2))
    with pytest.raises(ValueError, match="check_forward_ad"):
        gradcheck(lambda x: x, point(1.0), check_forward_ad=True)
    with pytest.raises(GradcheckError, match="no output requires grad"):
        gradcheck(lambda x: x.detach(), point(1.0))
