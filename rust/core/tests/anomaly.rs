//! Anomaly mode from Rust. The mode is that of the process: one test, in a file of its own.

use firesteel::autograd::anomaly::{set_tracer, Anomalies, Place};
use firesteel::autograd::{backward, Options};
use firesteel::{Result, Tensor};
use std::sync::atomic::{AtomicU32, Ordering};

static LINE: AtomicU32 = AtomicU32::new(0);

/// Each place that is asked for is the next line.
fn next_line() -> Option<Place> {
    let line = LINE.fetch_add(1, Ordering::Relaxed) + 1;
    Some(Place {
        file: "net.rs".into(),
        line,
        function: "step".into(),
        module: Some("net.fc1".into()),
        source: None,
    })
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

    Anomalies::default().set();
    let asked = LINE.load(Ordering::Relaxed);
    run(x.sqrt()?.mul(&zero)?.sum(&[], false)?)?;
    assert_eq!(LINE.load(Ordering::Relaxed), asked);
    Ok(())
}
