//! Training in Rust alone: a small network learns to tell two interleaved half-moons apart.
//!
//! `cargo run --release --example train`

use std::f64::consts::PI;

use firesteel::autograd::{backward, GradMode, Options};
use firesteel::kernels::optim::SgdOptions;
use firesteel::ops::loss::ClassLoss;
use firesteel::optim::sgd_step;
use firesteel::random::Generator;
use firesteel::{bail, DType, Result, Tensor};

/// A linear layer: `x @ weight^T + bias`.
struct Linear {
    weight: Tensor,
    bias: Tensor,
}

impl Linear {
    /// Parameters drawn as PyTorch draws them: uniform within `1 / sqrt(inputs)`.
    fn new(inputs: usize, outputs: usize, generator: &mut Generator) -> Result<Self> {
        let bound = 1.0 / (inputs as f64).sqrt();
        let mut parameter = |shape: &[usize]| -> Result<Tensor> {
            let tensor = Tensor::empty(shape, DType::F32)?;
            tensor.uniform_(-bound, bound, generator)?;
            tensor.set_requires_grad(true)?;
            Ok(tensor)
        };
        Ok(Self { weight: parameter(&[outputs, inputs])?, bias: parameter(&[outputs])? })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        x.linear(&self.weight, Some(&self.bias))
    }
}

/// Linear layers with ReLU between them.
struct Mlp(Vec<Linear>);

impl Mlp {
    fn new(sizes: &[usize], generator: &mut Generator) -> Result<Self> {
        let layers = sizes.windows(2).map(|pair| Linear::new(pair[0], pair[1], generator));
        Ok(Self(layers.collect::<Result<_>>()?))
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = self.0[0].forward(x)?;
        for layer in &self.0[1..] {
            x = layer.forward(&x.relu()?)?;
        }
        Ok(x)
    }

    fn parameters(&self) -> Vec<Tensor> {
        self.0.iter().flat_map(|layer| [layer.weight.clone(), layer.bias.clone()]).collect()
    }
}

/// `2 * count` points of the plane, and which of two half-circles each lies on, give or take noise.
fn two_moons(count: usize, generator: &mut Generator) -> Result<(Tensor, Tensor)> {
    let angle = Tensor::empty(&[count], DType::F32)?;
    angle.uniform_(0.0, PI, generator)?;
    let (x, y) = (angle.cos()?, angle.sin()?);
    let upper = Tensor::stack(&[&x, &y], 1)?;
    let lower = Tensor::stack(&[&(1.0 - &x), &(0.5 - &y)], 1)?;
    let noise = Tensor::randn(&[2 * count, 2], DType::F32, generator)? * 0.1;
    let points = Tensor::cat(&[&upper, &lower], 0)?.add(&noise)?;
    let zeros = Tensor::zeros(&[count], DType::I64)?;
    let ones = Tensor::ones(&[count], DType::I64)?;
    Ok((points, Tensor::cat(&[&zeros, &ones], 0)?))
}

/// Share of points whose larger score is that of their moon.
fn accuracy(model: &Mlp, points: &Tensor, labels: &Tensor) -> Result<f64> {
    let _no_grad = GradMode::disabled();
    let right = model.forward(points)?.argmax(Some(1), false)?.eq(labels)?;
    right.to_dtype(DType::F32)?.mean(&[], false)?.array().item_f64()
}

fn main() -> Result<()> {
    const BATCH: usize = 50;
    let mut generator = Generator::new(0);
    let (points, labels) = two_moons(500, &mut generator)?;
    let (test_points, test_labels) = two_moons(500, &mut generator)?;
    let model = Mlp::new(&[2, 32, 32, 2], &mut generator)?;
    let parameters = model.parameters();
    let options = SgdOptions { lr: 0.1, momentum: 0.9, ..Default::default() };
    let mut momenta = vec![None; parameters.len()];
    for epoch in 1..=10 {
        let order = Tensor::randperm(points.shape()[0], DType::I64, &mut generator)?;
        let mut total = 0.0;
        let batches = order.split(BATCH, 0)?;
        for batch in &batches {
            let (x, y) = (points.index_select(0, batch)?, labels.index_select(0, batch)?);
            let loss = model.forward(&x)?.cross_entropy(&y, &ClassLoss::default())?;
            total += loss.array().item_f64()?;
            backward(&[loss], &[None], None, Options::default())?;
            let grads: Vec<Tensor> = parameters.iter().filter_map(Tensor::grad).collect();
            momenta = sgd_step(&parameters, &grads, &momenta, &options)?;
            parameters.iter().try_for_each(|parameter| parameter.set_grad(None))?;
        }
        println!("epoch {epoch:>2}: loss {:.4}", total / batches.len() as f64);
    }
    let accuracy = accuracy(&model, &test_points, &test_labels)?;
    println!("accuracy on new points: {:.1} %", 100.0 * accuracy);
    if accuracy <= 0.95 {
        bail!(Value, "train: accuracy {accuracy:.3} is not above 0.95; the network did not learn");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_network_learns() {
        super::main().unwrap();
    }
}
