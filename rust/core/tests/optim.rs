//! Optimizer steps against PyTorch 2.13: hashes of a parameter after five steps.

use firesteel::dtype::Element;
use firesteel::kernels::optim::{adam_step, sgd_step, AdamOptions, Real, SgdOptions};
use firesteel::random::Generator;
use firesteel::simd::{level, Level};

const LEN: usize = 1003;

/// Float32 and float64, through the one generator both need.
trait Normal: Real {
    fn fill(generator: &mut Generator, out: &mut [Self]);
    fn hash(values: &[Self]) -> u64;
}

macro_rules! normal {
    ($type:ty, $fill:ident) => {
        impl Normal for $type {
            fn fill(generator: &mut Generator, out: &mut [Self]) {
                generator.$fill(out, 0.0, 1.0);
            }
            fn hash(values: &[Self]) -> u64 {
                values
                    .iter()
                    .flat_map(|value| value.to_le_bytes())
                    .fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
                        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
                    })
            }
        }
    };
}
normal!(f32, normal_f32);
normal!(f64, normal_f64);

/// Five steps with random gradients; `step` gets the parameter, the gradient and the step's number.
fn train<T: Normal>(mut step: impl FnMut(&mut [T], &[T], u32)) -> u64 {
    let mut generator = Generator::new(9);
    let (mut param, mut grad) = ([T::default(); LEN], [T::default(); LEN]);
    T::fill(&mut generator, &mut param);
    for number in 1..=5 {
        T::fill(&mut generator, &mut grad);
        step(&mut param, &grad, number);
    }
    T::hash(&param)
}

fn sgd<T: Normal>(options: SgdOptions) -> u64 {
    let mut buffer = [T::default(); LEN];
    train::<T>(|param, grad, number| {
        let buffer = (options.momentum != 0.0).then_some(&mut buffer[..]);
        sgd_step(param, grad, buffer, number == 1, &options);
    })
}

fn adam<T: Normal>(options: AdamOptions, amsgrad: bool) -> u64 {
    let mut state = [(); 3].map(|()| vec![T::default(); LEN]);
    train::<T>(|param, grad, number| {
        let [avg, avg_sq, max] = &mut state;
        adam_step(param, grad, avg, avg_sq, amsgrad.then_some(max), f64::from(number), &options);
    })
}

/// The baseline of x86-64 does not fuse multiply-add: its last bits differ.
fn is_fused() -> bool {
    level() >= Level::V3 || cfg!(target_arch = "aarch64")
}

#[test]
fn sgd_gives_the_bits_of_pytorch() {
    let base = SgdOptions { lr: 0.03, ..SgdOptions::default() };
    let cases = [
        (SgdOptions { ..base }, 0x173632a8eaf58b7e, 0xbe476cdd21825f6d),
        (SgdOptions { weight_decay: 0.01, ..base }, 0x55648f53fd200cd6, 0x1f0a45201d01df27),
        (SgdOptions { momentum: 0.9, ..base }, 0xf6213be40c2b933d, 0x4bea48811b522321),
        (
            SgdOptions { momentum: 0.9, dampening: 0.3, weight_decay: 0.01, maximize: true, ..base },
            0x506ebcb1535dac0f,
            0x623ec0b4461ae0de,
        ),
        (
            SgdOptions { momentum: 0.8, nesterov: true, weight_decay: 0.1, ..base },
            0x1fb2a0a8679f4a9e,
            0x52548e0192cc6d26,
        ),
    ];
    for (options, single, double) in cases {
        let got = (sgd::<f32>(options), sgd::<f64>(options));
        assert!(!is_fused() || got == (single, double), "{options:?}");
    }
}

// PyTorch's float32 `sqrt` (MKL's) is off by a unit in the last place for one value in five; these
// hashes are those of its optimizer with a correctly rounded square root.
#[test]
fn adam_gives_the_bits_of_pytorch() {
    let base = AdamOptions { lr: 0.03, ..AdamOptions::default() };
    let cases = [
        (AdamOptions { ..base }, false, 0xe187470d4a305888, 0xf3245b8cd008b6ae),
        (AdamOptions { weight_decay: 0.1, ..base }, false, 0x51942c87f485f005, 0x28d5fe9095a6c091),
        (
            AdamOptions { weight_decay: 0.1, maximize: true, ..base },
            true,
            0xd6de7dfe8ef10eb0,
            0xcc7b5d55dcb71ff4,
        ),
        (
            AdamOptions { betas: (0.4, 0.95), eps: 1e-3, ..base },
            false,
            0xdc7ab099f72169a2,
            0xed8f8e91d13fe9b9,
        ),
        (
            AdamOptions { weight_decay: 0.1, decoupled_weight_decay: true, ..base },
            false,
            0x5790c2a5087f687,
            0xec4b46e0666f7ffe,
        ),
    ];
    for (options, amsgrad, single, double) in cases {
        let got = (adam::<f32>(options, amsgrad), adam::<f64>(options, amsgrad));
        assert!(!is_fused() || got == (single, double), "{options:?}");
    }
}

#[test]
fn one_step_by_hand() {
    let mut param = [1.0f64, -2.0];
    sgd_step(&mut param, &[0.5, 0.25], None, true, &SgdOptions { lr: 2.0, ..SgdOptions::default() });
    assert_eq!(param, [0.0, -2.5]);
    // Adam's first step moves every parameter by the learning rate, against the sign of its gradient.
    let (mut avg, mut avg_sq) = ([0.0; 2], [0.0; 2]);
    let options = AdamOptions { lr: 0.1, eps: 0.0, ..AdamOptions::default() };
    adam_step(&mut param, &[3.0, -7.0], &mut avg, &mut avg_sq, None, 1.0, &options);
    assert!((param[0].to_f64() + 0.1).abs() < 1e-12 && (param[1] + 2.4).abs() < 1e-12, "{param:?}");
}
