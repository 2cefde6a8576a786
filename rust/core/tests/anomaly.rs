//! Anomaly mode from Rust. The mode is that of the process: one test, in a file of its own.

use firesteel::autograd::anomaly::{set_tracer, Anomalies, Place};
use firesteel::autograd::node::{Backward, InputGrads, OutputGrads};
use firesteel::autograd::{apply_many, backward, Needs, NodeRef, Options};
use firesteel::{Array, Error, Result, Tensor};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

static LINE: AtomicU32 = AtomicU32::new(0);

static IS_INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Each place that is asked for is the next line.
fn next_line() -> Result<Option<Place>> {
    if IS_INTERRUPTED.load(Ordering::Relaxed) {
        return Err(Error::external("interrupted", "by Ctrl-C"));
    }
    let line = LINE.fetch_add(1, Ordering::Relaxed) + 1;
    Ok(Some(Place {
        file: "net.rs".into(),
        line,
        function: "step".into(),
        module: Some("net.fc1".into()),
        source: None,
    }))
}

fn leaf(values: &[f32]) -> Result<Tensor> {
    let x = Tensor::from_slice(values, &[values.len()])?;
    x.set_requires_grad(true)?;
    Ok(x)
}

fn failure<T>(result: Result<T>) -> String {
    result.err().expect("an error").to_string()
}

fn run(root: Tensor) -> Result<()> {
    backward(&[root], &[None], None, Options::default())
}

/// An operation with two outputs.
#[derive(Debug)]
struct Twice;

impl Backward for Twice {
    fn name(&self) -> String {
        "twice".into()
    }

    fn backward(&self, _: &NodeRef, _: Needs<'_>, grads: OutputGrads) -> Result<InputGrads> {
        Ok(grads.into_iter().take(1).collect())
    }
}

#[test]
fn errors_name_places_while_the_mode_is_on() -> Result<()> {
    set_tracer(next_line);
    Anomalies { enabled: true, check_nan: true, check_forward: false }.set();
    let x = leaf(&[0.0, 4.0])?;

    LINE.store(10, Ordering::Relaxed);
    let y = x.sqrt()?; // line 11
    assert_eq!(y.grad_fn().unwrap().node.origin().unwrap().place.as_ref().unwrap().line, 11);
    let zero = Tensor::from_slice(&[0.0f32, 1.0], &[2])?;
    let text = failure(run(y.mul(&zero)?.sum(&[], false)?));
    assert!(text.contains("Function 'SqrtBackward0' returned nan values in its 0th output"), "{text}");
    assert!(text.contains("recorded at File \"net.rs\", line 11, in step, module net.fc1"), "{text}");

    LINE.store(20, Ordering::Relaxed);
    let y = x.exp()?; // 21
    y.add_(&zero)?; // 22, and 23 for its node
    let text = failure(run(y.sum(&[], false)?));
    assert!(text.contains("changed by add_ at File \"net.rs\", line 22"), "{text}");
    assert!(text.contains("at ExpBackward0 of shape [2]"), "{text}");
    assert!(text.contains("recorded at File \"net.rs\", line 21"), "{text}");

    let loss = x.mul(&x)?.sum(&[], false)?;
    LINE.store(30, Ordering::Relaxed);
    run(loss.clone())?; // 31
    let text = failure(run(loss));
    assert!(
        text.contains("freed by the backward pass from SumBackward0 of shape [] at File \"net.rs\", line 31"),
        "{text}"
    );

    Anomalies { enabled: true, check_nan: false, check_forward: true }.set();
    let text = failure(Tensor::from_slice(&[1.0f32, 0.0], &[2])?.log());
    assert!(text.starts_with("log: the result of shape [2] (float32) holds -inf"), "{text}");

    let outputs = [1.0f32, f32::NAN].map(Array::scalar);
    let outputs = outputs.into_iter().collect::<Result<Vec<_>>>()?;
    let text = failure(apply_many(Twice, &[&x], outputs));
    assert!(text.starts_with("twice: the result of shape [] (float32) holds nan (1 of 1"), "{text}");

    let (y, loss) = (x.mul(&x)?, x.sum(&[], false)?);
    IS_INTERRUPTED.store(true, Ordering::Relaxed);
    assert_eq!(failure(x.cos()), "interrupted");
    assert_eq!(failure(y.sin_()), "interrupted");
    assert_eq!(y.grad_fn().unwrap().node.name(), "SinBackward0"); // it was written
    assert_eq!(failure(run(loss)), "interrupted");
    IS_INTERRUPTED.store(false, Ordering::Relaxed);
    x.cos()?;

    Anomalies::default().set();
    let asked = LINE.load(Ordering::Relaxed);
    run(x.sqrt()?.mul(&zero)?.sum(&[], false)?)?;
    assert_eq!(LINE.load(Ordering::Relaxed), asked);
    Ok(())
}
