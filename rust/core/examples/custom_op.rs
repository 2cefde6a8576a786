//! An operation of your own: its forward, what it saves, its gradient rule. It is recorded, differentiated to
//! any order, hooked and freed like those of the library.
//!
//!     cargo run --release --package firesteel --example custom_op

use firesteel::autograd::{apply, grad, Grads, Op, Options, Saved, Saves};
use firesteel::{Array, Result, Tensor};

/// ln(cosh(x)): near 0 a parabola, far from it |x| - ln 2.
#[derive(Debug)]
struct LogCosh;

impl Op<1> for LogCosh {
    const NAME: &'static str = "log_cosh";

    fn saves(&self, _needs: [bool; 1]) -> Saves<1> {
        Saves::all_inputs()
    }

    /// |x| + ln(1 + exp(-2 |x|)) - ln 2, which does not overflow.
    fn forward(&mut self, [x]: [&Array; 1]) -> Result<Array> {
        let size = Tensor::constant(x.clone()).abs()?;
        let tail = (&size * -2.0).exp()?.log1p()?;
        Ok((&(&size + &tail) - std::f64::consts::LN_2).array().clone())
    }

    /// The derivative is tanh(x). Written with tensor operations, it can be differentiated again.
    fn backward(&self, saved: &Saved<1>, grad: &Tensor) -> Result<Grads<1>> {
        Ok([Some(grad * &saved.input(0)?.tanh()?)])
    }
}

fn log_cosh(x: &Tensor) -> Result<Tensor> {
    apply(LogCosh, [x])
}

fn main() -> Result<()> {
    let x = Tensor::from_slice(&[-2.0f64, 0.0, 0.5, 300.0], &[4])?;
    x.set_requires_grad(true)?;
    let y = log_cosh(&x)?;
    println!("y = {y:?}: {:?}", y.array().to_vec::<f64>()?);

    let graph = Options { create_graph: true, retain_graph: true };
    let first = derivative(&y, &x, graph)?;
    let second = derivative(&first, &x, Options::default())?;
    println!("first derivative:  {:?}", first.array().to_vec::<f64>()?);
    println!("second derivative: {:?}", second.array().to_vec::<f64>()?);
    Ok(())
}

/// The gradient of the sum of `y` with respect to `x`.
fn derivative(y: &Tensor, x: &Tensor, options: Options) -> Result<Tensor> {
    let mut grads = grad(&[y.sum(&[], false)?], &[None], std::slice::from_ref(x), options)?;
    Ok(grads.remove(0).expect("y depends on x"))
}

#[test]
fn derivatives_of_every_order() -> Result<()> {
    let x = Tensor::from_slice(&[-2.0f64, 0.0, 0.5, 300.0], &[4])?;
    x.set_requires_grad(true)?;
    let y = log_cosh(&x)?;
    let graph = Options { create_graph: true, retain_graph: true };
    let first = derivative(&y, &x, graph)?;
    let second = derivative(&first, &x, Options::default())?;
    let rows = [x, y, first, second].map(|t| t.array().to_vec::<f64>());
    let [x, y, first, second] = rows;
    let (x, y, first, second) = (x?, y?, first?, second?);
    for (i, x) in x.into_iter().enumerate() {
        let value = if x < 100.0 { x.cosh().ln() } else { x - std::f64::consts::LN_2 };
        assert!((y[i] - value).abs() < 1e-12);
        assert!((first[i] - x.tanh()).abs() < 1e-12);
        assert!((second[i] - (1.0 - x.tanh().powi(2))).abs() < 1e-12);
    }
    Ok(())
}
