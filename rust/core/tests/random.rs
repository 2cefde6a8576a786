//! The generator against PyTorch's results, its state, and simple statistics.

#[path = "random/pytorch.rs"]
mod pytorch;

use firesteel::dtype::{bf16, f16, Element};
use firesteel::random::{default_generator, fresh_seed, use_thread_generator, Generator, DEFAULT_SEED};
use firesteel::Kind;
use std::sync::Arc;

fn fnv(bytes: impl IntoIterator<Item = u8>) -> u64 {
    bytes.into_iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Draws `len` values and hashes their bytes.
macro_rules! hash {
    ($len:expr, $type:ty, |$out:ident| $draw:expr) => {{
        let mut values = vec![<$type>::default(); $len];
        let $out = &mut values[..];
        $draw;
        fnv(values.iter().flat_map(|value| value.to_le_bytes()))
    }};
}

fn eighths<T: Element>(len: usize) -> Vec<T> {
    (0..len).map(|i| T::from_f64((i % 8) as f64 / 8.0)).collect()
}

fn call(g: &mut Generator, name: &str, len: usize) -> u64 {
    match name {
        "uniform_f32" => hash!(len, f32, |out| g.uniform_f32(out, 0.0, 1.0)),
        "uniform_f64" => hash!(len, f64, |out| g.uniform_f64(out, 0.0, 1.0)),
        "uniform_f32_ab" => hash!(len, f32, |out| g.uniform_f32(out, -0.3, 1.9)),
        "uniform_f64_ab" => hash!(len, f64, |out| g.uniform_f64(out, -0.3, 1.9)),
        "uniform_f16" => hash!(len, f16, |out| g.uniform_half(out, 0.0, 1.0)),
        "uniform_bf16_ab" => hash!(len, bf16, |out| g.uniform_half(out, -0.3, 1.9)),
        "normal_f32" => hash!(len, f32, |out| g.normal_f32(out, 0.0, 1.0)),
        "normal_f64" => hash!(len, f64, |out| g.normal_f64(out, 0.0, 1.0)),
        "normal_f32_ms" => hash!(len, f32, |out| g.normal_f32(out, 0.7, 1.9)),
        "normal_f64_ms" => hash!(len, f64, |out| g.normal_f64(out, 0.7, 1.9)),
        "normal_f16" => hash!(len, f16, |out| g.normal_half(out, 0.0, 1.0)),
        "normal_bf16_ms" => hash!(len, bf16, |out| g.normal_half(out, 0.7, 1.9)),
        "serial_f32" => hash!(len / 2 * 2, f32, |out| g.normal_serial(out, 0.7, 1.9)),
        "randint" => hash!(len, i64, |out| g.randint(out, -7, 100)),
        "randint_i32" => hash!(len, i32, |out| g.randint(out, 0, (1 << 27) + 5)),
        "randint_wide" => hash!(len, i64, |out| g.randint(out, -5, 1 << 28)),
        "randint_all" => hash!(len, i64, |out| g.randint(out, i64::MIN, i64::MAX)),
        "randperm" => hash!(len, i64, |out| g.randperm(out)),
        "bernoulli_f32" => hash!(len, f32, |out| g.bernoulli(out, 0.3)),
        "bernoulli_f64" => hash!(len, f64, |out| g.bernoulli(out, 0.3)),
        "bernoulli_with_f32" => hash!(len, f32, |out| g.bernoulli_with_f32(out, &eighths(len))),
        "bernoulli_with_f64" => hash!(len, f64, |out| g.bernoulli_with_f64(out, &eighths(len))),
        "dropout_f32" => hash!(len, f32, |out| g.dropout_mask(out, 0.3)),
        "dropout_f64" => hash!(len, f64, |out| g.dropout_mask(out, 0.3)),
        "dropout_bf16" => hash!(len, bf16, |out| g.dropout_mask(out, 0.3)),
        "dropout_all" => hash!(len, f32, |out| g.dropout_mask(out, 1.0)),
        "exponential_f32" => hash!(len, f32, |out| g.exponential(out, 1.7)),
        "exponential_f64" => hash!(len, f64, |out| g.exponential(out, 1.7)),
        _ => panic!("no such call: {name}"),
    }
}

#[test]
fn every_call_gives_the_bits_of_pytorch() {
    let mut wrong = Vec::new();
    for &(seed, calls, state) in pytorch::SEQUENCES {
        let mut generator = Generator::new(seed);
        assert_eq!(generator.initial_seed(), seed);
        for (i, &(name, len, expected)) in calls.iter().enumerate() {
            if call(&mut generator, name, len) != expected {
                wrong.push(format!("seed {seed}, call {i}: {name}({len})"));
            }
        }
        if fnv(generator.state()) != state {
            wrong.push(format!("seed {seed}: state"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_saved_state_goes_on_where_it_was() {
    let mut generator = Generator::new(5);
    call(&mut generator, "normal_f32", 7);
    let state = generator.state();
    let expected = call(&mut generator, "normal_f32", 700);
    let mut other = Generator::default();
    other.set_state(&state).unwrap();
    assert_eq!(other.initial_seed(), 5);
    assert_eq!(call(&mut other, "normal_f32", 700), expected);
}

#[test]
fn a_broken_state_is_refused_and_changes_nothing() {
    let mut generator = Generator::new(5);
    let before = generator.clone();
    let error = generator.set_state(&[0; 12]).unwrap_err();
    assert_eq!(error.kind(), Kind::Value);
    assert_eq!(error.message(), "set_state: got 12 bytes; a state has 5056");
    let mut state = generator.state();
    state[16] = 200;
    let error = generator.set_state(&state).unwrap_err();
    assert!(error.message().starts_with("set_state: position 200 with 1 words left"), "{error}");
    assert_eq!(generator, before);
}

#[test]
fn the_default_generator_starts_anywhere_and_a_new_one_at_the_default_seed() {
    assert_eq!(Generator::default().initial_seed(), DEFAULT_SEED);
    assert_ne!(fresh_seed(), fresh_seed());
    let generator = default_generator();
    let mut generator = generator.lock().unwrap();
    assert_ne!(generator.initial_seed(), DEFAULT_SEED);
    generator.manual_seed(0);
    assert_eq!(generator.random(), 2_357_136_044);
}

#[test]
fn a_thread_with_a_generator_of_its_own_shares_nobody_elses() {
    let of_process = default_generator();
    let drawn = std::thread::spawn(move || {
        assert!(Arc::ptr_eq(&default_generator(), &of_process));
        use_thread_generator(0);
        assert!(!Arc::ptr_eq(&default_generator(), &of_process));
        let generator = default_generator();
        let drawn = generator.lock().unwrap().random();
        drawn
    });
    assert_eq!(drawn.join().unwrap(), 2_357_136_044);
}

#[test]
fn a_permutation_has_every_number_once() {
    for len in [0, 1, 2, 1025, 5000] {
        let mut values = vec![-1; len];
        Generator::new(1).randperm(&mut values);
        values.sort_unstable();
        assert!(values.iter().copied().eq(0..len as i64));
    }
}
