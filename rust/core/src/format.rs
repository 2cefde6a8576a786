//! Orders of dims in memory that programs ask for by name.

use crate::array::Array;
use crate::layout::{contiguous_strides, Dims, Layout, Strides};
use crate::{ensure, Result};

/// An order of the dims in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MemoryFormat {
    /// Row-major.
    Contiguous,
    /// Images `(N, C, H, W)` whose channels lie side by side for each pixel.
    ChannelsLast,
    /// The same for volumes `(N, C, D, H, W)`.
    ChannelsLast3d,
}

impl MemoryFormat {
    /// Its name, as PyTorch's.
    pub fn name(self) -> &'static str {
        match self {
            Self::Contiguous => "contiguous_format",
            Self::ChannelsLast => "channels_last",
            Self::ChannelsLast3d => "channels_last_3d",
        }
    }

    /// The dims from the innermost to the outermost; none if the format is for another number of dims.
    fn order(self, rank: usize) -> Option<Dims> {
        match (self, rank) {
            (Self::Contiguous, _) => Some((0..rank).rev().collect()),
            (Self::ChannelsLast, 4) => Some(Dims::from_slice(&[1, 3, 2, 0])),
            (Self::ChannelsLast3d, 5) => Some(Dims::from_slice(&[1, 4, 3, 2, 0])),
            _ => None,
        }
    }

    /// The layout of a tensor of that shape.
    pub fn layout(self, shape: &[usize]) -> Result<Layout> {
        if self == Self::Contiguous {
            return Ok(Layout::contiguous(shape));
        }
        let rank = if self == Self::ChannelsLast { 4 } else { 5 };
        ensure!(
            shape.len() == rank,
            Shape,
            "required rank {rank} tensor to use {} format, but got shape {shape:?}; unsqueeze or reshape it",
            self.name()
        );
        let mut strides: Strides = contiguous_strides(shape);
        let mut step = 1;
        for dim in self.order(rank).into_iter().flatten() {
            strides[dim] = step;
            step *= shape[dim] as isize;
        }
        Ok(Layout::new(Dims::from_slice(shape), strides, 0))
    }

    /// Whether the elements lie in this order without gaps.
    pub fn is_kept_by(self, layout: &Layout) -> bool {
        if self == Self::Contiguous {
            return layout.is_contiguous();
        }
        let mut step = 1;
        self.order(layout.rank()).is_some_and(|order| {
            order.into_iter().all(|dim| {
                let extent = layout.shape()[dim] as isize;
                let fits = extent == 1 || layout.strides()[dim] == step;
                step *= extent;
                fits
            })
        })
    }

    /// Whether the layout is what this format makes of its shape, so that nothing is to be done for it: the strides tell
    /// it, also where extents of 1 leave the order open.
    pub fn is_of(self, layout: &Layout) -> bool {
        self.is_kept_by(layout) && Self::of(layout) == self
    }

    /// The format that results of layers take over from an input of that layout: PyTorch's rule, which tells by
    /// the strides even where extents of 1 leave the order open.
    pub fn of(layout: &Layout) -> Self {
        let format = if layout.rank() == 4 { Self::ChannelsLast } else { Self::ChannelsLast3d };
        let (shape, strides) = (layout.shape(), layout.strides());
        let Some(order) = format.order(layout.rank()).filter(|_| strides[1] != 0) else {
            return Self::Contiguous;
        };
        let mut least = 0;
        for dim in order {
            let is_ambiguous = dim == 0 && least == strides[1];
            if shape[dim] == 0 || strides[dim] < least || is_ambiguous {
                return Self::Contiguous;
            }
            least = strides[dim] * if shape[dim] > 1 { shape[dim] as isize } else { 1 };
        }
        format
    }
}

impl Array {
    /// Itself if it is of that format, else a copy that is.
    pub fn in_format(&self, format: MemoryFormat) -> Result<Self> {
        if format.is_of(self.layout()) {
            return Ok(self.clone());
        }
        self.copied_in(format)
    }

    /// A copy in that order.
    pub fn copied_in(&self, format: MemoryFormat) -> Result<Self> {
        let out = Self::empty_like(&format.layout(self.shape())?, self.dtype())?;
        out.copy_from(self)?;
        Ok(out)
    }

    /// A row-major result in the memory format of the input that it was computed from.
    pub fn in_format_of(&self, input: &Array) -> Result<Self> {
        match MemoryFormat::of(input.layout()) {
            MemoryFormat::Contiguous => Ok(self.clone()),
            format => self.in_format(format),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;

    #[test]
    fn formats_are_told_by_strides() {
        let shape = [2, 3, 4, 5];
        let layout = MemoryFormat::ChannelsLast.layout(&shape).unwrap();
        assert_eq!(layout.strides(), [60, 1, 15, 3]);
        assert_eq!(MemoryFormat::of(&layout), MemoryFormat::ChannelsLast);
        assert!(
            MemoryFormat::ChannelsLast.is_kept_by(&layout) && !MemoryFormat::Contiguous.is_kept_by(&layout)
        );
        assert_eq!(MemoryFormat::of(&Layout::contiguous(&shape)), MemoryFormat::Contiguous);
        assert!(MemoryFormat::ChannelsLast3d.layout(&shape).is_err());
        // Both orders hold, and the strides decide.
        assert_eq!(MemoryFormat::of(&Layout::contiguous(&[2, 1, 4, 5])), MemoryFormat::Contiguous);
        assert!(MemoryFormat::ChannelsLast.is_kept_by(&Layout::contiguous(&[2, 1, 4, 5])));
    }

    #[test]
    fn arrays_change_their_format() {
        let values: Vec<f32> = (0..24).map(|i| i as f32).collect();
        let x = Array::from_slice(&values, &[1, 2, 3, 4]).unwrap();
        let last = x.in_format(MemoryFormat::ChannelsLast).unwrap();
        assert_eq!(last.strides(), [24, 1, 8, 2]);
        assert_eq!(last.to_vec::<f32>().unwrap(), values);
        assert_eq!(x.in_format_of(&last).unwrap().strides(), last.strides());
        assert_eq!(x.in_format_of(&x).unwrap().strides(), x.strides());
        assert_eq!(last.dtype(), DType::F32);
        let one = Array::empty(&[2, 1, 7, 8], DType::F32).unwrap();
        let last = one.in_format(MemoryFormat::ChannelsLast).unwrap();
        assert_eq!(last.strides(), [56, 1, 8, 1]);
        assert!(MemoryFormat::ChannelsLast.is_of(last.layout()));
    }
}
