//! `+ - * /` on tensors, for gradient rules and tests. An error unwinds with its [`crate::Error`],
//! without a panic message; the engine turns it back into an ordinary error.

use crate::tensor::Tensor;
use crate::Result;
use std::ops::{Add, Div, Mul, Neg, Sub};
use std::panic::resume_unwind;

fn unwrap(result: Result<Tensor>) -> Tensor {
    result.unwrap_or_else(|error| resume_unwind(Box::new(error)))
}

macro_rules! operator {
    ($trait:ident, $method:ident) => {
        impl $trait<&Tensor> for &Tensor {
            type Output = Tensor;
            fn $method(self, other: &Tensor) -> Tensor {
                unwrap(Tensor::$method(self, other))
            }
        }
        impl $trait<Tensor> for &Tensor {
            type Output = Tensor;
            fn $method(self, other: Tensor) -> Tensor {
                unwrap(Tensor::$method(self, &other))
            }
        }
        impl $trait<&Tensor> for Tensor {
            type Output = Tensor;
            fn $method(self, other: &Tensor) -> Tensor {
                unwrap(Tensor::$method(&self, other))
            }
        }
        impl $trait<Tensor> for Tensor {
            type Output = Tensor;
            fn $method(self, other: Tensor) -> Tensor {
                unwrap(Tensor::$method(&self, &other))
            }
        }
        impl $trait<f64> for &Tensor {
            type Output = Tensor;
            fn $method(self, other: f64) -> Tensor {
                unwrap(self.scalar_beside(other).and_then(|other| Tensor::$method(self, &other)))
            }
        }
        impl $trait<f64> for Tensor {
            type Output = Tensor;
            fn $method(self, other: f64) -> Tensor {
                $trait::$method(&self, other)
            }
        }
        impl $trait<&Tensor> for f64 {
            type Output = Tensor;
            fn $method(self, other: &Tensor) -> Tensor {
                unwrap(other.scalar_beside(self).and_then(|this| Tensor::$method(&this, other)))
            }
        }
        impl $trait<Tensor> for f64 {
            type Output = Tensor;
            fn $method(self, other: Tensor) -> Tensor {
                $trait::$method(self, &other)
            }
        }
    };
}

operator!(Add, add);
operator!(Sub, sub);
operator!(Mul, mul);
operator!(Div, div);

impl Neg for &Tensor {
    type Output = Tensor;
    fn neg(self) -> Tensor {
        unwrap(Tensor::neg(self))
    }
}

impl Neg for Tensor {
    type Output = Tensor;
    fn neg(self) -> Tensor {
        unwrap(Tensor::neg(&self))
    }
}
